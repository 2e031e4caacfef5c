//! From logits to a token: bias, penalties, temperature, top-k, top-p, min-p and a seeded draw.
//!
//! The order is mask ([`TokenMask`]), bias, penalties, temperature, top-k, top-p, min-p. Bias before penalties is what both
//! transformers (`LogitsProcessorList`) and llama.cpp (`common_sampler`) do; temperature before the cuts is
//! transformers' order, so that top-p and min-p see the distribution that is drawn from. (llama.cpp applies temperature
//! last; its top-p and min-p then cut the distribution at temperature 1.)

mod exp;
mod log_probability;
mod mask;
mod nucleus;
mod rng;
mod settings;
#[cfg(test)]
mod tests;
mod weights;

pub use log_probability::{LikelyToken, SampledToken, log_probability, log_sum_exp, most_likely};
pub use mask::TokenMask;
pub use rng::Pcg32;
pub use settings::{Sampling, SamplingError};

use crate::Token;
use core::cmp::Ordering;
use exp::CHUNK;
use nucleus::nucleus;
use weights::{Numerator, nonzero, weigh, weigh_above};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A candidate token. A slice of candidates is the sampler's scratch memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Candidate {
    /// Logit, later unnormalized probability.
    pub weight: f32,
    /// The token.
    pub token: Token,
}

impl Candidate {
    /// Best first: the higher weight, then the lower id.
    fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
        b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
    }
}

/// Seeded sampling state. The same settings, seed and logits give the same tokens on every platform.
#[derive(Clone, Debug)]
pub struct Sampler<'b> {
    sampling: Sampling,
    bias: &'b [(Token, f32)],
    rng: Pcg32,
}

impl<'b> Sampler<'b> {
    /// A sampler seeded with [`Sampling::seed`].
    ///
    /// # Errors
    /// Those of [`Sampling::check`].
    pub fn new(sampling: Sampling) -> Result<Sampler<'b>, SamplingError> {
        sampling.check()?;
        Ok(Sampler { sampling, bias: &[], rng: Pcg32::new(sampling.seed) })
    }

    /// Sets a logit bias, added before all other operations; minus infinity bans a token. Ignores tokens outside the
    /// vocabulary.
    ///
    /// # Errors
    /// [`SamplingError::Bias`] for NaN and plus infinity.
    pub fn with_bias(mut self, bias: &'b [(Token, f32)]) -> Result<Sampler<'b>, SamplingError> {
        if let Some(&(token, found)) = bias.iter().find(|(_, b)| b.is_nan() || *b == f32::INFINITY) {
            return Err(SamplingError::Bias { token: token.0, found });
        }
        self.bias = bias;
        Ok(self)
    }

    /// The settings.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Whether there is a logit bias.
    pub fn has_bias(&self) -> bool {
        !self.bias.is_empty()
    }

    /// The random number generator.
    pub fn rng(&self) -> &Pcg32 {
        &self.rng
    }

    /// Advances the generator as if a token had been drawn: another device drew it with these settings and random numbers.
    pub fn skip(&mut self) {
        if self.sampling.temperature != 0.0 {
            self.rng.unit();
        }
    }

    /// Reseeds the random number generator.
    pub fn reseed(&mut self, seed: u64) {
        self.sampling.seed = seed;
        self.rng = Pcg32::new(seed);
    }

    /// Draws the next token from `logits`, `[vocab]`, and overwrites them.
    ///
    /// Penalties use `history`, oldest first. NaN counts as minus infinity. Returns token 0 if all logits are minus infinity.
    /// Greedy ties go to the lowest id.
    ///
    /// `candidates` is scratch memory; `logits.len()` candidates always suffice. With fewer, top-k is at most
    /// `candidates.len()`, top-p without top-k considers (and normalizes over) the best `candidates.len()` tokens, and
    /// penalties use the last `candidates.len()` tokens of the history.
    ///
    /// Nothing sorts the vocabulary: top-k sorts what it keeps, and top-p a few times as many tokens as it keeps.
    pub fn sample(&mut self, logits: &mut [f32], history: &[Token], candidates: &mut [Candidate]) -> Token {
        self.adjust(logits, history, candidates);
        let best = greedy(logits);
        let max = logits.get(best.index()).copied().unwrap_or(f32::NEG_INFINITY);
        if self.sampling.temperature == 0.0 || max == f32::NEG_INFINITY {
            return best;
        }
        let numerator = Numerator { max, scale: 1.0 / f64::from(self.sampling.temperature) };
        if self.sampling.top_k.is_none() && self.sampling.top_p.is_none_or(|p| p >= 1.0) {
            return self.draw_from_all(logits, numerator, best);
        }
        let top_k = self.sampling.top_k.unwrap_or(logits.len()).min(candidates.len());
        let top_p = self.sampling.top_p.filter(|&p| p < 1.0);
        let kept = match top_p {
            Some(p) if top_k >= logits.len() => match nucleus::screened(logits, numerator, p, candidates) {
                Some(kept) => kept,
                None => {
                    let total = weigh(logits, numerator);
                    nucleus::of_all(logits, p, total, candidates)
                }
            },
            _ => {
                let kept = keep_best(logits, top_k, candidates);
                for candidate in kept.iter_mut() {
                    candidate.weight = numerator.weight(candidate.weight);
                }
                match top_p {
                    Some(p) => nucleus(kept, p),
                    None => {
                        kept.sort_unstable_by(Candidate::best_first);
                        kept
                    }
                }
            }
        };
        let kept = &kept[..kept.partition_point(|c| c.weight >= self.min_weight())];
        self.draw(kept.iter().map(|c| (c.token, c.weight)), best)
    }

    /// Applies bias and penalties to `logits`; NaN becomes minus infinity, plus infinity the largest number.
    pub fn adjust(&self, logits: &mut [f32], history: &[Token], scratch: &mut [Candidate]) {
        for logit in logits.iter_mut() {
            *logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit.min(f32::MAX) };
        }
        for &(token, bias) in self.bias {
            if let Some(logit) = logits.get_mut(token.index()) {
                *logit = (*logit + bias).min(f32::MAX);
            }
        }
        if self.sampling.penalizes() {
            self.penalize(logits, history, scratch);
        }
    }

    /// Repetition penalty as in CTRL (arXiv 1909.05858, section 4.1, with the sign rule that transformers
    /// and llama.cpp share); frequency and presence penalties as in OpenAI's API reference.
    fn penalize(&self, logits: &mut [f32], history: &[Token], scratch: &mut [Candidate]) {
        let window = self.sampling.penalty_window.unwrap_or(usize::MAX).min(scratch.len());
        let recent = &history[history.len().saturating_sub(window)..];
        let seen = &mut scratch[..recent.len()];
        for (slot, &token) in seen.iter_mut().zip(recent) {
            *slot = Candidate { weight: 0.0, token };
        }
        seen.sort_unstable_by_key(|c| c.token);
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        for run in seen.chunk_by(|a, b| a.token == b.token) {
            let Some(logit) = logits.get_mut(run[0].token.index()) else { continue };
            let repeated =
                if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            let penalty = run.len() as f32 * frequency_penalty + presence_penalty;
            let after = repeated - penalty;
            // An overflowing negative penalty must not become plus infinity.
            *logit = if after.is_nan() { f32::NEG_INFINITY } else { after.min(f32::MAX) };
        }
    }

    /// The min-p threshold; the best token has weight 1.
    fn min_weight(&self) -> f32 {
        self.sampling.min_p.unwrap_or(0.0)
    }

    /// Draws without top-k and top-p, which needs neither sorting nor candidates.
    fn draw_from_all(&mut self, logits: &mut [f32], numerator: Numerator, best: Token) -> Token {
        let min_weight = self.min_weight();
        weigh_above(logits, numerator, min_weight);
        if min_weight > 0.0 {
            return self.draw(nonzero(logits), best);
        }
        self.draw((0..).map(Token).zip(logits.iter().copied()), best)
    }

    /// Draws in proportion to the weights; returns `best` if all weights are 0.
    fn draw(&mut self, weighted: impl Iterator<Item = (Token, f32)> + Clone, best: Token) -> Token {
        let total: f64 = weighted.clone().map(|(_, weight)| f64::from(weight)).sum();
        let mut left = self.rng.unit() * total;
        let mut last = best;
        for (token, weight) in weighted.filter(|&(_, weight)| weight > 0.0) {
            left -= f64::from(weight);
            last = token;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// The token with the largest logit (ties: the lowest id); token 0 if there is none.
pub fn greedy(logits: &[f32]) -> Token {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        let largest = exp::largest(chunk);
        if largest > best.1 {
            best = (index * CHUNK, largest);
        }
    }
    let (start, largest) = best;
    if largest == f32::NEG_INFINITY {
        return Token(0);
    }
    let within = logits[start..].iter().position(|&logit| logit == largest);
    Token((start + within.unwrap_or(0)) as u32)
}

/// Writes the `count` largest logits to the front of `candidates`, in no particular order.
fn keep_best<'c>(logits: &[f32], count: usize, candidates: &'c mut [Candidate]) -> &'c mut [Candidate] {
    let count = count.min(logits.len()).min(candidates.len());
    let kept = &mut candidates[..count];
    for ((token, &weight), slot) in (0..).map(Token).zip(logits).zip(kept.iter_mut()) {
        *slot = Candidate { weight, token };
    }
    if count == 0 || count == logits.len() {
        return kept;
    }
    // A heap with the worst candidate on top: nearly all chunks fail the one comparison with it. Equal
    // logits never replace one another, so that the lower id stays.
    for root in (0..count / 2).rev() {
        sift_down(kept, root);
    }
    for (index, chunk) in logits[count..].chunks(CHUNK).enumerate() {
        if exp::largest(chunk) <= kept[0].weight {
            continue;
        }
        for (token, &weight) in ((count + index * CHUNK) as u32..).map(Token).zip(chunk) {
            if weight > kept[0].weight {
                kept[0] = Candidate { weight, token };
                sift_down(kept, 0);
            }
        }
    }
    kept
}

/// Restores the heap, worst on top, below `root`.
fn sift_down(heap: &mut [Candidate], mut root: usize) {
    loop {
        let worse = |a: usize, b: usize| Candidate::best_first(&heap[a], &heap[b]) == Ordering::Greater;
        let (left, right) = (2 * root + 1, 2 * root + 2);
        let mut worst = root;
        if left < heap.len() && worse(left, worst) {
            worst = left;
        }
        if right < heap.len() && worse(right, worst) {
            worst = right;
        }
        if worst == root {
            return;
        }
        heap.swap(root, worst);
        root = worst;
    }
}

//! Top-p: the most probable tokens whose probabilities reach a sum.

use super::Candidate;
use super::exp::{self, CHUNK};
use super::weights::Numerator;
use crate::Token;

/// The smallest set of best candidates with at least `p` of the total weight, best first (arXiv 1904.09751, section 3.1).
pub(super) fn nucleus(candidates: &mut [Candidate], p: f32) -> &mut [Candidate] {
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let target = f64::from(p) * total;
    let min_weight = least(total, target, candidates.len());
    let mut heavy = 0;
    for index in 0..candidates.len() {
        if f64::from(candidates[index].weight) >= min_weight {
            candidates.swap(index, heavy);
            heavy += 1;
        }
    }
    best(&mut candidates[..heavy], target)
}

/// The same of a vocabulary's `weights`, whose sum is `total`, with room for as many candidates: only those that can be in the
/// nucleus become candidates.
pub(super) fn of_all<'c>(
    weights: &[f32],
    p: f32,
    total: f64,
    candidates: &'c mut [Candidate],
) -> &'c mut [Candidate] {
    let target = f64::from(p) * total;
    let min_weight = least(total, target, weights.len());
    let mut heavy = 0;
    for (chunk, first) in weights.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        if f64::from(exp::largest(chunk)) < min_weight {
            continue;
        }
        for (token, &weight) in (first..).map(Token).zip(chunk) {
            if f64::from(weight) >= min_weight
                && let Some(place) = candidates.get_mut(heavy)
            {
                *place = Candidate { weight, token };
                heavy += 1;
            }
        }
    }
    best(&mut candidates[..heavy], target)
}

/// [`of_all`] from the `logits`, if few of them decide it, which a low temperature brings about: the same candidates, to the bit.
///
/// Chunks whose largest weight is below [`LIGHT`] are left out. So the total is known within bounds, and where both lead to the
/// same nucleus, so does what lies between them. `None` where they do not, or where too many chunks would be left.
pub(super) fn screened<'c>(
    logits: &[f32],
    numerator: Numerator,
    p: f32,
    candidates: &'c mut [Candidate],
) -> Option<&'c mut [Candidate]> {
    let (mut found, mut weighed, mut sum) = (0, 0, 0.0);
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        if numerator.power(exp::largest(chunk)) < LIGHT_POWER {
            continue;
        }
        weighed += 1;
        if weighed > 8 + index / 8 {
            return None;
        }
        // By themselves: vector code.
        let mut weights = [0.0; CHUNK];
        for (weight, &logit) in weights.iter_mut().zip(chunk) {
            *weight = numerator.weight(logit);
        }
        for (token, &weight) in ((index * CHUNK) as u32..).map(Token).zip(&weights[..chunk.len()]) {
            sum += f64::from(weight);
            if weight >= LIGHT {
                *candidates.get_mut(found)? = Candidate { weight, token };
                found += 1;
            }
        }
    }
    // Sums of a vocabulary in f64 differ by less than this part, in whatever order: 2^-53 for each of fewer than 2^24 numbers.
    const ROUNDING: f64 = 2e-9;
    let lowest = f64::from(p) * sum * (1.0 - ROUNDING);
    let highest = f64::from(p) * (sum + f64::from(LIGHT) * logits.len() as f64) * (1.0 + ROUNDING);
    let kept = best(&mut candidates[..found], highest);
    let (last, before) = kept.split_last()?;
    let before: f64 = before.iter().map(|c| f64::from(c.weight)).sum();
    let proven = before < lowest && before + f64::from(last.weight) >= highest;
    proven.then_some(kept)
}

/// A weight that no token of a nucleus is below if [`screened`] finds it.
const LIGHT: f32 = 1.4e-11;
/// A power of e that is below [`LIGHT`], by more than the error of [`exp::exp`].
const LIGHT_POWER: f32 = -25.0;

/// The least weight in a nucleus of `count` candidates: lighter ones together have less than the rest of the total.
fn least(total: f64, target: f64, count: usize) -> f64 {
    (total - target) / count.max(1) as f64
}

/// The best candidates that reach `target` together, best first; all if they do not.
///
/// Sorts a few of the best, then four times as many, until they suffice.
fn best(candidates: &mut [Candidate], target: f64) -> &mut [Candidate] {
    let mut sorted = 0;
    let mut sum = 0.0;
    while sorted < candidates.len() {
        let next = (4 * sorted).max(64).min(candidates.len());
        let rest = &mut candidates[sorted..];
        let step = next - sorted;
        if step < rest.len() {
            rest.select_nth_unstable_by(step - 1, Candidate::best_first);
        }
        rest[..step].sort_unstable_by(Candidate::best_first);
        for (index, candidate) in rest[..step].iter().enumerate() {
            sum += f64::from(candidate.weight);
            if sum >= target {
                return &mut candidates[..=sorted + index];
            }
        }
        sorted = next;
    }
    candidates
}

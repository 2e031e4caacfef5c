//! A request: what a sequence is asked to do, decided before it runs, and what came of it.

use super::tiny::Random;
use super::{CONTEXT, Subject};
use thimble_host::{Generator, InferencePlan, SpinPool, generator, set_adapters};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask};

/// A sequence's work: a prompt and tokens drawn after it, then perhaps a rewind, other tokens, and more tokens drawn.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<Token>,
    /// Tokens drawn after the prompt.
    pub(crate) first: usize,
    /// Positions to rewind from the end, the tokens that follow, and how many are drawn after them.
    pub(crate) again: Option<(usize, Vec<Token>, usize)>,
    pub(crate) sampling: Sampling,
    /// The seed of the masks, if there are any.
    pub(crate) mask: Option<u64>,
    /// Indices and weights of adapters.
    pub(crate) adapters: Vec<(usize, f32)>,
}

/// What a sequence computed: the bits of the logits that each token was drawn from, and the token.
pub(crate) type Trace = Vec<(Vec<u32>, Token)>;

pub(crate) fn tokens(random: &mut Random, count: usize, vocab: usize) -> Vec<Token> {
    (0..count).map(|_| Token(random.below(vocab) as u32)).collect()
}

impl Request {
    pub(crate) fn new(random: &mut Random, vocab: usize, longest: usize) -> Request {
        // Long ones go back far behind what the cache of a window keeps.
        let long = longest > 1000;
        let shortest = if long { longest / 2 } else { 1 };
        let length = shortest + random.below(longest - shortest);
        let first = 1 + random.below(10);
        let again = (long || random.below(3) == 0).then(|| {
            let least = if long { length / 2 } else { 1 };
            let back = least + random.below(length + first - least);
            let more = 1 + random.below(30);
            (back, tokens(random, more, vocab), 1 + random.below(6))
        });
        let one_of = |random: &mut Random, some: &[f32]| some[random.below(some.len())];
        let sampling = Sampling {
            temperature: one_of(random, &[0.0, 0.3, 0.9, 1.7]),
            top_k: (random.below(2) == 0).then(|| 2 + random.below(60)),
            top_p: (random.below(2) == 0).then_some(0.9),
            min_p: (random.below(3) == 0).then_some(0.02),
            repetition_penalty: one_of(random, &[1.0, 1.3]),
            frequency_penalty: one_of(random, &[0.0, 0.4]),
            presence_penalty: one_of(random, &[0.0, 0.2]),
            penalty_window: (random.below(2) == 0).then_some(16),
            seed: random.next(),
        };
        let mask = (random.below(3) == 0).then(|| random.next());
        let mut adapters = Vec::new();
        for index in 0..2 {
            if random.below(3) == 0 {
                adapters.push((index, one_of(random, &[1.0, 0.5, -0.75])));
            }
        }
        if random.below(2) == 0 {
            adapters.reverse();
        }
        Request { prompt: tokens(random, length, vocab), first, again, sampling, mask, adapters }
    }

    /// The words of the mask of the `index`-th token: about a third of all tokens.
    pub(crate) fn mask(&self, index: usize, vocab: usize) -> Option<Vec<u32>> {
        let mut random = Random(self.mask? ^ index as u64);
        Some((0..vocab.div_ceil(32)).map(|_| random.next() as u32 & random.next() as u32 | 1).collect())
    }

    /// What a session on its own makes of the request.
    pub(crate) fn alone(&self, subject: &Subject, plan: &InferencePlan) -> Trace {
        let file = subject.model.file().unwrap();
        let mut memory = plan.allocate().unwrap();
        let pool = SpinPool::new(plan.threads()).unwrap();
        let mut session = generator(&file, plan, &mut memory, &pool).unwrap();
        let weighted = self.adapters.iter().map(|&(index, weight)| WeightedAdapter {
            file: subject.adapters[index].file().unwrap(),
            weight,
        });
        set_adapters(&mut session, &weighted.collect::<Vec<_>>()).unwrap();
        let mut sampler = Sampler::new(self.sampling).unwrap();
        let mut trace = Trace::new();
        session.prefill(&self.prompt).unwrap();
        self.draw(&mut session, &mut sampler, (self.first, file.config().vocab), &mut trace);
        if let Some((back, more, count)) = &self.again {
            session.rewind(session.position() - back).unwrap();
            session.prefill(more).unwrap();
            self.draw(&mut session, &mut sampler, (*count, file.config().vocab), &mut trace);
        }
        assert!(session.position() < CONTEXT);
        trace
    }

    fn draw(
        &self,
        session: &mut Generator<'_>,
        sampler: &mut Sampler<'_>,
        (count, vocab): (usize, usize),
        trace: &mut Trace,
    ) {
        for _ in 0..count {
            let logits = session.tokens_and_logits().1.iter().map(|x| x.to_bits()).collect();
            let token = match self.mask(trace.len(), vocab) {
                Some(words) => session.sample_masked(sampler, TokenMask::new(&words)).unwrap(),
                None => session.sample(sampler),
            };
            trace.push((logits, token));
            session.prefill(&[token]).unwrap();
        }
    }
}

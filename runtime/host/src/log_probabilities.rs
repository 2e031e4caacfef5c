//! Log-probabilities of sampled tokens, in memory allocated once.

use thimble_runtime::Token;
use thimble_runtime::sampler::{LikelyToken, SampledToken, log_probability, most_likely};

/// Keeps what [`SampledToken`] says about the token drawn last: sampling overwrites the logits.
#[derive(Clone, Debug)]
pub struct LogProbabilities {
    /// The model's logits, `[vocab]`.
    logits: Vec<f32>,
    best: Vec<LikelyToken>,
    /// Used part of `best`.
    count: usize,
    drawn: Option<LikelyToken>,
}

impl LogProbabilities {
    /// Memory for a vocabulary, and so many of the most probable tokens.
    pub fn new(vocab: usize, alternatives: usize) -> LogProbabilities {
        let best = vec![LikelyToken::default(); alternatives.min(vocab)];
        LogProbabilities { logits: Vec::with_capacity(vocab), best, count: 0, drawn: None }
    }

    /// Takes the logits that the next token is drawn from, `[vocab]`. Does not allocate.
    pub fn observe(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.count = most_likely(logits, &mut self.best);
        self.drawn = None;
    }

    /// Takes the token that was drawn from them.
    pub fn drawn(&mut self, token: Token) {
        let log_probability = log_probability(&self.logits, token);
        self.drawn = Some(LikelyToken { token, log_probability });
    }

    /// What the model thought of the token drawn last; `None` before the first.
    pub fn last(&self) -> Option<SampledToken<'_>> {
        let LikelyToken { token, log_probability } = self.drawn?;
        Some(SampledToken { token, log_probability, alternatives: &self.best[..self.count] })
    }
}

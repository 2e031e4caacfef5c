//! The state of asynchronous decoding: tokens that the device has sampled ahead of the host.

use crate::sampler_state::ID_SLOTS;
use std::collections::VecDeque;
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::sampler::{Pcg32, Sampler, Sampling};

/// Most tokens of a submission.
const MAX_TOKENS: usize = 8;
/// Target duration of a submission, seconds. Two submissions may be wasted when an answer ends.
const TARGET_SECONDS: f64 = 0.008;

/// Tokens sampled ahead of the host, and the conditions under which they are valid.
pub(crate) struct DecodeQueue {
    /// Sampled, not yet returned.
    ready: VecDeque<Token>,
    /// The token returned last, and its position.
    pub(crate) last: Option<(Token, usize)>,
    /// Whether the host continues with that token.
    pub(crate) confirmed: bool,
    sampling: Sampling,
    /// State of the sampler's generator after the token returned last.
    rng: Pcg32,
    /// Tokens of the next submission.
    pub(crate) submit_len: usize,
    /// When tokens were last received.
    received: Instant,
}

impl DecodeQueue {
    pub(crate) fn new() -> DecodeQueue {
        DecodeQueue {
            ready: VecDeque::with_capacity(ID_SLOTS),
            last: None,
            confirmed: false,
            sampling: Sampling::default(),
            rng: Pcg32::new(0),
            submit_len: 1,
            received: Instant::now(),
        }
    }

    /// Whether the queued tokens are what `sampler` would draw next.
    pub(crate) fn matches(&self, sampler: &Sampler<'_>) -> bool {
        self.sampling == *sampler.sampling() && self.rng == *sampler.rng()
    }

    /// Discards the tokens sampled ahead: something else runs.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        (self.last, self.confirmed) = (None, false);
    }

    /// Starts an empty queue with these settings.
    pub(crate) fn restart(&mut self, sampling: &Sampling) {
        self.clear();
        (self.sampling, self.submit_len) = (*sampling, 1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Queues the tokens of a submission, and sizes the next one by the time per token.
    pub(crate) fn receive(&mut self, tokens: Vec<Token>) {
        let seconds = self.received.elapsed().as_secs_f64() / tokens.len().max(1) as f64;
        self.received = Instant::now();
        self.submit_len =
            ((TARGET_SECONDS / seconds) as usize).clamp(1, (2 * self.submit_len).min(MAX_TOKENS));
        self.ready.extend(tokens);
    }

    /// The next token, at `position`; advances `sampler` as if it had drawn the token.
    pub(crate) fn pop(&mut self, sampler: &mut Sampler<'_>, position: usize) -> Option<Token> {
        let token = self.ready.pop_front()?;
        sampler.skip();
        self.rng = sampler.rng().clone();
        (self.last, self.confirmed) = (Some((token, position)), false);
        Some(token)
    }
}

//! A session as the only slot, for backends that run one sequence.

use super::slots::SlotRunner;
use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, TokenMask};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::sequences::Part;
use thimble_runtime::session::{Session, SessionError};

/// One slot, which is a session. All slot numbers mean it.
pub struct SessionSlot<'s, S: Sequence>(&'s mut Session<S>);

impl<'s, S: Sequence> SessionSlot<'s, S> {
    /// The slot that is this session.
    pub fn new(session: &'s mut Session<S>) -> SessionSlot<'s, S> {
        SessionSlot(session)
    }
}

impl<S: Sequence> SlotRunner for SessionSlot<'_, S> {
    fn slots(&self) -> usize {
        1
    }

    fn context(&self) -> usize {
        self.0.context()
    }

    fn hidden(&self) -> usize {
        self.0.hidden()
    }

    fn batch(&self) -> usize {
        self.0.sequence().limits().batch
    }

    fn tokens(&mut self, _slot: usize) -> &[Token] {
        self.0.tokens()
    }

    fn reuse(&mut self, _slot: usize, tokens: &[Token]) -> usize {
        self.0.reuse(tokens)
    }

    fn clear(&mut self, _slot: usize) {
        // Cannot fail: no position is before the start.
        let _ = self.0.rewind(0);
    }

    fn step(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        parts.iter().try_for_each(|part| self.0.prefill(part.tokens))
    }

    fn logits(&mut self, _slot: usize) -> &mut [f32] {
        self.0.tokens_and_logits().1
    }

    fn sample(&mut self, _slot: usize, sampler: &mut Sampler<'_>) -> Token {
        self.0.sample(sampler)
    }

    fn sample_masked(
        &mut self,
        _slot: usize,
        sampler: &mut Sampler<'_>,
        mask: TokenMask<'_>,
    ) -> Option<Token> {
        self.0.sample_masked(sampler, mask)
    }

    fn append(
        &mut self,
        _slot: usize,
        tokens: &[Token],
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        self.0.append(tokens, 0, each)
    }

    fn hidden_states(
        &mut self,
        parts: &[Part<'_>],
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), SessionError> {
        parts.iter().enumerate().try_for_each(|(number, part)| {
            self.0.hidden_states(part.tokens, 0, &mut |index, state| each(number, index, state))
        })
    }
}

//! Slots that are sessions of their own: each runs its tokens by itself.

use super::slots::{SlotTokens, Slots};
use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, TokenMask};
use thimble_runtime::sequence::Sequence;
use thimble_runtime::session::{Session, SessionError};

/// Slots over single sessions of the same model and size, for backends that run one sequence at a time.
pub struct SessionSlots<S: Sequence> {
    sessions: Vec<Session<S>>,
}

impl<S: Sequence> SessionSlots<S> {
    /// A slot for each session, which have the same limits; `None` without any.
    pub fn new(sessions: Vec<Session<S>>) -> Option<SessionSlots<S>> {
        let first = sessions.first()?.sequence().limits();
        let same = sessions.iter().all(|session| session.sequence().limits() == first);
        same.then_some(SessionSlots { sessions })
    }
}

impl<S: Sequence> Slots for SessionSlots<S> {
    fn slots(&self) -> usize {
        self.sessions.len()
    }

    fn context(&self) -> usize {
        self.sessions[0].context()
    }

    fn hidden(&self) -> usize {
        self.sessions[0].hidden()
    }

    fn batch(&self) -> usize {
        self.sessions[0].sequence().limits().batch
    }

    fn tokens(&mut self, slot: usize) -> &[Token] {
        self.sessions[slot].tokens()
    }

    fn reuse(&mut self, slot: usize, tokens: &[Token]) -> usize {
        self.sessions[slot].reuse(tokens)
    }

    fn clear(&mut self, slot: usize) {
        // Cannot fail: no position is before the start.
        let _ = self.sessions[slot].rewind(0);
    }

    fn step(&mut self, parts: &[SlotTokens<'_>]) -> Result<(), SessionError> {
        parts.iter().try_for_each(|part| self.sessions[part.slot].prefill(part.tokens))
    }

    fn logits(&mut self, slot: usize) -> &mut [f32] {
        self.sessions[slot].tokens_and_logits().1
    }

    fn sample(&mut self, slot: usize, sampler: &mut Sampler<'_>) -> Token {
        self.sessions[slot].sample(sampler)
    }

    fn sample_masked(
        &mut self,
        slot: usize,
        sampler: &mut Sampler<'_>,
        mask: TokenMask<'_>,
    ) -> Option<Token> {
        self.sessions[slot].sample_masked(sampler, mask)
    }

    fn append(
        &mut self,
        slot: usize,
        tokens: &[Token],
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        self.sessions[slot].append(tokens, 0, each)
    }

    fn hidden_states(
        &mut self,
        slot: usize,
        tokens: &[Token],
        each: &mut dyn FnMut(&[f32]),
    ) -> Result<(), SessionError> {
        self.sessions[slot].hidden_states(tokens, 0, &mut |_, state| each(state))
    }
}

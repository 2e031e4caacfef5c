//! The slots of a model on the CPU: all run in one pass over the weights.

use super::slots::SlotRunner;
use thimble_host::Slots;
use thimble_runtime::Token;
use thimble_runtime::kernels::ThreadPool;
use thimble_runtime::sampler::{Sampler, TokenMask};
use thimble_runtime::sequences::Part;
use thimble_runtime::session::SessionError;

impl<T: ThreadPool> SlotRunner for Slots<'_, T> {
    fn slots(&self) -> usize {
        self.slots()
    }

    fn context(&self) -> usize {
        self.context()
    }

    fn hidden(&self) -> usize {
        self.plan().config().hidden
    }

    fn batch(&self) -> usize {
        self.batch()
    }

    fn tokens(&mut self, slot: usize) -> &[Token] {
        Slots::tokens(self, slot)
    }

    fn reuse(&mut self, slot: usize, tokens: &[Token]) -> usize {
        self.reuse(slot, tokens)
    }

    fn copies(&self) -> bool {
        true
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<(), SessionError> {
        self.copy(from, to, tokens)
    }

    fn clear(&mut self, slot: usize) {
        // Fails only for a slot that does not exist.
        let _ = self.rewind(slot, 0);
    }

    fn step(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        self.step(parts)
    }

    fn logits(&mut self, slot: usize) -> &mut [f32] {
        self.logits(slot)
    }

    fn sample(&mut self, slot: usize, sampler: &mut Sampler<'_>) -> Token {
        self.sample(slot, sampler)
    }

    fn sample_masked(
        &mut self,
        slot: usize,
        sampler: &mut Sampler<'_>,
        mask: TokenMask<'_>,
    ) -> Option<Token> {
        self.sample_masked(slot, sampler, mask)
    }

    fn append(
        &mut self,
        slot: usize,
        tokens: &[Token],
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError> {
        self.run(&[Part { slot, tokens }])?;
        self.each_logits(slot, 0, each);
        Ok(())
    }

    fn hidden_states(
        &mut self,
        parts: &[Part<'_>],
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), SessionError> {
        let hidden = self.plan().config().hidden;
        self.run(parts)?;
        for (number, part) in parts.iter().enumerate() {
            let states = Slots::hidden_states(self, part.slot).chunks_exact(hidden);
            states.enumerate().for_each(|(index, state)| each(number, index, state));
        }
        Ok(())
    }
}

//! Several sequences of one model: what the scheduler drives.

use thimble_runtime::Token;
use thimble_runtime::sampler::{Sampler, TokenMask};
use thimble_runtime::sequences::Part;
use thimble_runtime::session::SessionError;

/// Several sequences of one model, each in a slot. Slots count from 0; a slot that does not exist is a bug of the caller, and
/// may panic.
pub trait SlotRunner {
    /// Number of slots.
    fn slots(&self) -> usize;
    /// Capacity of each slot in tokens.
    fn context(&self) -> usize;
    /// Hidden size: the length of a hidden state.
    fn hidden(&self) -> usize;
    /// Most tokens of one step, those of all slots together.
    fn batch(&self) -> usize;
    /// The tokens in a slot.
    fn tokens(&mut self, slot: usize) -> &[Token];
    /// Rewinds a slot to the longest common prefix with `tokens`, at most all of them but the last; returns its length.
    fn reuse(&mut self, slot: usize, tokens: &[Token]) -> usize;
    /// Whether [`SlotRunner::copy`] works.
    fn copies(&self) -> bool {
        false
    }
    /// Replaces the tokens of slot `to` by the first `tokens` ones of slot `from`, without computing them; both have the same
    /// adapters.
    ///
    /// # Errors
    /// The slots cannot be copied; nothing has changed then.
    fn copy(&mut self, _from: usize, _to: usize, _tokens: usize) -> Result<(), SessionError> {
        Err(SessionError::Empty)
    }
    /// Empties a slot.
    fn clear(&mut self, slot: usize);
    /// Appends tokens to slots, each slot at most once, and computes the logits after the last token of each part.
    ///
    /// # Errors
    /// Tokens that a sequence refuses; all sequences are then unchanged, or hold all of their part.
    fn step(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError>;
    /// The logits after the last token of a slot, `[vocab]`, which the caller may change.
    fn logits(&mut self, slot: usize) -> &mut [f32];
    /// Draws the next token of a slot from its logits.
    fn sample(&mut self, slot: usize, sampler: &mut Sampler<'_>) -> Token;
    /// Draws the next token of a slot among those that `mask` allows; `None` if it allows none of the vocabulary.
    fn sample_masked(&mut self, slot: usize, sampler: &mut Sampler<'_>, mask: TokenMask<'_>)
    -> Option<Token>;
    /// Appends `tokens` to a slot and calls `each(index, logits)` with the logits after each of them, `[vocab]`.
    ///
    /// # Errors
    /// Tokens that the sequence refuses.
    fn append(
        &mut self,
        slot: usize,
        tokens: &[Token],
        each: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), SessionError>;
    /// Appends tokens to slots, each slot at most once, and calls `each(part, index, state)` with the hidden state of each token
    /// of each part, `[hidden]`.
    ///
    /// # Errors
    /// As for [`SlotRunner::step`].
    fn hidden_states(
        &mut self,
        parts: &[Part<'_>],
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), SessionError>;
}

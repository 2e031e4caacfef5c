//! Several independent sequences over one copy of the weights: a step appends tokens to some of them in one pass (continuous
//! batching, Yu et al. 2022, "Orca").

use crate::Token;
use crate::adapter::{AdapterError, AdapterSet, WeightedAdapter};
use crate::cpu::Cpu;
use crate::kernels::{Kernels, ThreadPool};
use crate::memory::{BatchPart, MemoryError, MemoryPlan};
use crate::model::{Backend, Weights, layers};
use crate::sampler::{Sampler, TokenMask};
use crate::session::SessionError;

/// Tokens to append to one slot: one to decode, many to prefill.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The slot.
    pub slot: usize,
    /// The tokens, at least one.
    pub tokens: &'a [Token],
}

/// What the rows of the last pass are good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastPass {
    /// Nothing.
    Gone,
    /// Their residual stream.
    Residual,
    /// The logits after the last of each part.
    Logits,
}

/// Sequences, each in a slot with a KV cache, a history and adapters of its own.
///
/// A slot's logits are those of a [`Session`](crate::session::Session) that runs it alone, to the bit, whichever slots run
/// beside it and however its tokens are cut. `A` holds the adapters of each slot, an array or a vector. Nothing allocates.
///
/// A slot that does not exist is empty: it has no tokens and no logits.
pub struct Sequences<'f, 'm, 't, T: ThreadPool, A> {
    cpu: Cpu<'f, 'm, 't, T, A>,
    last: LastPass,
}

impl<'f, 'm, 't, T: ThreadPool, A> Sequences<'f, 'm, 't, T, A>
where
    A: AsRef<[AdapterSet<'f>]> + AsMut<[AdapterSet<'f>]>,
{
    /// Empty slots in `memory`, which has the size and alignment of `plan`: as many as `adapters` has sets, which are the
    /// adapters that each slot begins with, and as the plan has sequences.
    ///
    /// # Errors
    /// [`MemoryError`], except [`MemoryError::Context`] and [`MemoryError::Overflow`].
    pub fn new(
        weights: Weights<'f>,
        plan: &MemoryPlan,
        (kernels, pool): (Kernels, &'t T),
        memory: &'m mut [u8],
        adapters: A,
    ) -> Result<Self, MemoryError> {
        let cpu = Cpu::with_adapters(weights, plan, (kernels, pool), memory, adapters)?;
        Ok(Sequences { cpu, last: LastPass::Gone })
    }

    /// The memory plan.
    pub fn plan(&self) -> &MemoryPlan {
        self.cpu.plan()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.plan().options().sequences
    }

    /// Capacity of each slot in tokens.
    pub fn context(&self) -> usize {
        self.plan().options().context
    }

    /// Most tokens of all parts of a step together.
    pub fn batch(&self) -> usize {
        self.plan().options().batch
    }

    /// Tokens in a slot.
    pub fn position(&self, slot: usize) -> usize {
        self.cpu.positions().get(slot).copied().unwrap_or(0)
    }

    /// The tokens in a slot.
    pub fn tokens(&self, slot: usize) -> &[Token] {
        let start = slot.saturating_mul(self.context());
        let history = self.cpu.all_history().get(start..).unwrap_or(&[]);
        history.get(..self.position(slot)).unwrap_or(&[])
    }

    /// Drops a slot's tokens from `position` on. Computes nothing; in a model with sliding windows, the next tokens after a
    /// long rewind take a forward pass of all tokens before them.
    ///
    /// # Errors
    /// [`SessionError::UnknownSlot`], [`SessionError::Rewind`].
    pub fn rewind(&mut self, slot: usize, position: usize) -> Result<(), SessionError> {
        self.check_slot(slot)?;
        let before = self.position(slot);
        if position > before {
            return Err(SessionError::Rewind { to: position, position: before });
        }
        if position < before {
            self.forget(slot);
        }
        self.cpu.buffers().positions[slot] = position;
        Ok(())
    }

    /// Rewinds a slot to the longest common prefix with `tokens` and returns its length, at most `tokens.len() - 1`: append
    /// `tokens[length..]` next.
    pub fn reuse(&mut self, slot: usize, tokens: &[Token]) -> usize {
        let limit = tokens.len().saturating_sub(1);
        let common = self.tokens(slot).iter().zip(tokens).take_while(|(a, b)| a == b).count().min(limit);
        // Fails only for a slot that does not exist, which has no tokens in common.
        let _ = self.rewind(slot, common);
        common
    }

    /// Replaces the tokens, cache and adapters of slot `to` by the first `tokens` tokens of slot `from`. There are no logits for
    /// it until another token runs: to go on from the same logits in both, rewind both by a token and append it again.
    ///
    /// # Errors
    /// [`SessionError::UnknownSlot`]; [`SessionError::Rewind`] if `from` has fewer tokens.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<(), SessionError> {
        self.check_slot(from)?;
        self.check_slot(to)?;
        let position = self.position(from);
        if tokens > position {
            return Err(SessionError::Rewind { to: tokens, position });
        }
        if from != to {
            self.forget(to);
            self.cpu.copy_sequence(from, to, tokens);
        }
        Ok(())
    }

    /// Runs a slot with these adapters from now on, of the rank that was planned. If that changes anything, the slot is empty
    /// afterwards. The fingerprint of the base model is not compared:
    /// [`AdapterFile::check_base`](crate::adapter::AdapterFile::check_base) does.
    ///
    /// # Errors
    /// [`AdapterError`]; the slot is then as before.
    pub fn set_adapters(
        &mut self,
        slot: usize,
        adapters: &[WeightedAdapter<'f>],
    ) -> Result<(), AdapterError> {
        let slots = self.slots();
        let before = self.cpu.adapters_of(slot).ok_or(AdapterError::UnknownSlot { found: slot, slots })?.id();
        if self.cpu.set_adapters_of(slot, adapters)? != before {
            self.forget(slot);
            self.cpu.buffers().positions[slot] = 0;
        }
        Ok(())
    }

    /// Appends the tokens of each part to its slot, in one pass over the weights, and computes the logits after the last of
    /// each part. The logits of all other slots are gone.
    ///
    /// # Errors
    /// No parts or one without tokens, an unknown slot, a slot in two parts, more tokens than a batch or a context has room
    /// for, an unknown token. Nothing has changed then.
    pub fn step(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        self.run(parts)?;
        self.cpu.head_of_parts();
        self.last = LastPass::Logits;
        Ok(())
    }

    /// [`Sequences::step`] without logits, for [`Sequences::hidden_states`] and [`Sequences::each_logits`], and for parts of
    /// prompts whose end is to come.
    ///
    /// # Errors
    /// As [`Sequences::step`].
    pub fn run(&mut self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        self.check(parts)?;
        for part in parts {
            self.refill(part.slot);
        }
        self.cpu.append_parts(parts.iter().map(|part| (part.slot, part.tokens)));
        let all = 0..self.cpu.layers();
        layers(&mut self.cpu, all);
        self.last = LastPass::Residual;
        Ok(())
    }

    /// The logits after a slot's last token, `[vocab]`, which the caller may change: empty unless the last step had a part for
    /// it, and after a rewind.
    pub fn logits(&mut self, slot: usize) -> &mut [f32] {
        let vocab = self.plan().config().vocab;
        match self.row(slot) {
            Some(row) => &mut self.cpu.logit_rows_mut()[row * vocab..(row + 1) * vocab],
            None => &mut [],
        }
    }

    /// Draws a slot's next token from its logits, and consumes them. Token 0 if there are no logits.
    pub fn sample(&mut self, slot: usize, sampler: &mut Sampler<'_>) -> Token {
        let position = self.position(slot);
        match self.row(slot) {
            Some(row) => self.cpu.sample_row(sampler, row, (slot, position)),
            None => Token(0),
        }
    }

    /// Like [`Sequences::sample`], among the tokens that `mask` allows; it comes before bias and penalties. `None`, with
    /// nothing consumed, if there are no logits or the mask allows no token of the vocabulary. If the logits of all allowed
    /// tokens are minus infinity, the lowest of them.
    pub fn sample_masked(
        &mut self,
        slot: usize,
        sampler: &mut Sampler<'_>,
        mask: TokenMask<'_>,
    ) -> Option<Token> {
        let first = mask.first(self.plan().config().vocab)?;
        self.row(slot)?;
        mask.apply(self.logits(slot));
        let token = self.sample(slot, sampler);
        Some(if mask.allows(token) { token } else { first })
    }

    /// The hidden states of a slot's tokens in the last [`Sequences::run`], `[tokens, hidden]`: the residual stream after the
    /// final norm. Empty if it had no part for the slot, and after a step.
    pub fn hidden_states(&mut self, slot: usize) -> &[f32] {
        match self.part(slot).filter(|_| self.last == LastPass::Residual) {
            Some(part) => self.cpu.hidden_states_of(part.rows()),
            None => &[],
        }
    }

    /// Calls `each(index, logits)` with the logits after each token, from `from` on, of a slot's part in the last
    /// [`Sequences::run`], `[vocab]`, which `each` may change. Nothing if it had no part for the slot, and after a step.
    pub fn each_logits(&mut self, slot: usize, from: usize, each: &mut dyn FnMut(usize, &mut [f32])) {
        let (vocab, rows) = (self.plan().config().vocab, self.plan().options().logit_rows);
        let Some(part) = self.part(slot).filter(|_| self.last == LastPass::Residual) else { return };
        let mut index = from;
        while index < part.tokens {
            let count = rows.min(part.tokens - index);
            Backend::head(&mut self.cpu, part.first + index..part.first + index + count);
            for logits in self.cpu.logit_rows_mut().chunks_exact_mut(vocab) {
                each(index, logits);
                index += 1;
            }
        }
    }

    /// A slot's part of the last pass, if its tokens are still its last.
    fn part(&self, slot: usize) -> Option<BatchPart> {
        self.cpu.parts().iter().copied().find(|part| part.slot == slot && part.tokens > 0)
    }

    /// The row of a slot's logits.
    fn row(&self, slot: usize) -> Option<usize> {
        let place = self.cpu.parts().iter().position(|part| part.slot == slot && part.tokens > 0);
        place.filter(|_| self.last == LastPass::Logits)
    }

    /// Drops what the last pass computed for a slot.
    fn forget(&mut self, slot: usize) {
        self.cpu.buffers().parts.iter_mut().filter(|part| part.slot == slot).for_each(|part| part.tokens = 0);
    }

    fn check_slot(&self, found: usize) -> Result<(), SessionError> {
        let slots = self.slots();
        if found < slots { Ok(()) } else { Err(SessionError::UnknownSlot { found, slots }) }
    }

    fn check(&self, parts: &[Part<'_>]) -> Result<(), SessionError> {
        let (vocab, context, limit) = (self.plan().config().vocab, self.context(), self.batch());
        if parts.is_empty() {
            return Err(SessionError::Empty);
        }
        for (i, Part { slot, tokens }) in parts.iter().enumerate() {
            self.check_slot(*slot)?;
            if parts[..i].iter().any(|part| part.slot == *slot) {
                return Err(SessionError::SlotTwice { slot: *slot });
            }
            if tokens.is_empty() {
                return Err(SessionError::Empty);
            }
            let (position, more) = (self.position(*slot), tokens.len());
            if more > context - position {
                return Err(SessionError::ContextFull { position, more, context });
            }
            if let Some(token) = tokens.iter().find(|token| token.index() >= vocab) {
                return Err(SessionError::UnknownToken { found: token.0, vocab });
            }
        }
        let found = parts.iter().map(|part| part.tokens.len()).sum();
        if found > limit { Err(SessionError::BatchFull { found, limit }) } else { Ok(()) }
    }

    /// Runs a slot's tokens again that a cache of recent positions lost to a rewind.
    fn refill(&mut self, slot: usize) {
        let (position, context) = (self.position(slot), self.context());
        let mut start = self.cpu.slot_resumes_from(slot, position);
        let mut tokens = [Token(0); 256];
        while start < position {
            let tokens = &mut tokens[..256.min(self.batch()).min(position - start)];
            let from = slot * context + start;
            tokens.copy_from_slice(&self.cpu.all_history()[from..from + tokens.len()]);
            self.cpu.embed_parts([(slot, &*tokens, start)].into_iter());
            let all = 0..self.cpu.layers();
            layers(&mut self.cpu, all);
            start += tokens.len();
        }
    }
}

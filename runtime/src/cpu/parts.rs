//! Batches of several sequences on the CPU.

use super::Cpu;
use crate::Token;
use crate::adapter::{AdapterError, AdapterSet, WeightedAdapter};
use crate::kernels::ThreadPool;
use crate::memory::{BatchPart, Buffers};
use crate::model::Backend;
use crate::sampler::Sampler;
use core::ops::Range;

impl<'f, 'm, T: ThreadPool, A> Cpu<'f, 'm, '_, T, A>
where
    A: AsRef<[AdapterSet<'f>]> + AsMut<[AdapterSet<'f>]>,
{
    /// Replaces the adapters of a sequence, and returns the set's id: see [`Cpu::set_adapters`].
    pub(crate) fn set_adapters_of(
        &mut self,
        slot: usize,
        adapters: &[WeightedAdapter<'f>],
    ) -> Result<u64, AdapterError> {
        let set = AdapterSet::new(adapters, self.plan.config(), self.plan.options().adapter_rank)?;
        self.adapters.as_mut()[slot] = set;
        Ok(set.id())
    }

    /// The adapters of a sequence.
    pub(crate) fn adapters_of(&self, slot: usize) -> Option<&AdapterSet<'f>> {
        self.adapters.as_ref().get(slot)
    }

    /// Tokens in each sequence.
    pub(crate) fn positions(&self) -> &[usize] {
        self.buffers.positions
    }

    /// The tokens of all sequences, `[sequences, context]`.
    pub(crate) fn all_history(&self) -> &[Token] {
        self.buffers.history
    }

    /// Replaces tokens, cache and adapters of a sequence by the first `end` positions of another one, which has as many.
    pub(crate) fn copy_sequence(&mut self, from: usize, to: usize, end: usize) {
        let context = self.plan.options().context;
        let b = &mut self.buffers;
        b.positions[to] = end;
        b.history.copy_within(from * context..from * context + end, to * context);
        b.cache.copy(from, to, end);
        let sets = self.adapters.as_mut();
        sets[to] = sets[from];
    }

    /// The same as [`Sequence::resumes_from`](crate::sequence::Sequence::resumes_from), of any sequence.
    pub(crate) fn slot_resumes_from(&self, slot: usize, position: usize) -> usize {
        if self.buffers.cache.resumes(slot, position) { position } else { 0 }
    }

    /// Begins a batch: `x` = rows of the embedding of the tokens of each part, which are a sequence, tokens and the position
    /// of the first; the angles of RoPE for each row. At most one part for each sequence.
    pub(crate) fn embed_parts<'p>(&mut self, parts: impl Iterator<Item = (usize, &'p [Token], usize)>) {
        let (hidden, rope) = (self.plan.config().hidden, self.plan.config().rope);
        let b = &mut self.buffers;
        let half = b.frequencies.len();
        (self.parts, self.rows) = (0, 0);
        for (place, (slot, tokens, position)) in b.parts.iter_mut().zip(parts) {
            b.cache.reserve(slot, position..position + tokens.len());
            for (t, token) in tokens.iter().enumerate() {
                let row = self.rows + t;
                let x = &mut b.x[row * hidden..(row + 1) * hidden];
                (self.parallel.kernels.row)(&self.weights.embedding, token.index(), x);
                let angles = row * half..(row + 1) * half;
                let angles = b.cos[angles.clone()].iter_mut().zip(&mut b.sin[angles]);
                for ((cos, sin), frequency) in angles.zip(&*b.frequencies) {
                    [*cos, *sin] = rope.rotation(position + t, *frequency);
                }
            }
            *place = BatchPart { slot, first: self.rows, tokens: tokens.len(), position };
            self.parts += 1;
            self.rows += tokens.len();
        }
    }

    /// [`Cpu::embed_parts`] of tokens that follow those of their sequences, and their entry into history and positions.
    pub(crate) fn append_parts<'p>(&mut self, parts: impl Iterator<Item = (usize, &'p [Token])> + Clone) {
        let context = self.plan.options().context;
        let positions = core::mem::take(&mut self.buffers.positions);
        self.embed_parts(parts.clone().map(|(slot, tokens)| (slot, tokens, positions[slot])));
        for (slot, tokens) in parts {
            let start = slot * context + positions[slot];
            self.buffers.history[start..start + tokens.len()].copy_from_slice(tokens);
            positions[slot] += tokens.len();
        }
        self.buffers.positions = positions;
    }

    /// The parts of the current batch.
    pub(crate) fn parts(&self) -> &[BatchPart] {
        &self.buffers.parts[..self.parts]
    }

    /// The buffers.
    pub(crate) fn buffers(&mut self) -> &mut Buffers<'m> {
        &mut self.buffers
    }

    /// Computes the logits after the last token of each part, in the order of parts. The residual stream has nothing else
    /// afterwards.
    pub(crate) fn head_of_parts(&mut self) {
        let hidden = self.plan.config().hidden;
        for (row, part) in self.buffers.parts[..self.parts].iter().enumerate() {
            // Parts have at least one row: `last` is not before `row`, and no row is overwritten before it moves.
            let last = part.rows().end - 1;
            self.buffers.x.copy_within(last * hidden..(last + 1) * hidden, row * hidden);
        }
        Backend::head(self, 0..self.parts);
    }

    /// The hidden states of `rows` of the batch. See [`Sequence::hidden_states`].
    pub(crate) fn hidden_states_of(&mut self, rows: Range<usize>) -> &[f32] {
        let config = *self.plan.config();
        let b = &mut self.buffers;
        let x = &b.x[rows.start * config.hidden..rows.end * config.hidden];
        let norm = (self.weights.final_norm, config.norm_eps, &mut b.normed[..x.len()]);
        Self::normed(&self.parallel, x, norm, None).floats
    }

    /// Valid logits, `[rows, vocab]`.
    pub(crate) fn logit_rows_mut(&mut self) -> &mut [f32] {
        &mut self.buffers.logits[..self.logit_rows * self.plan.config().vocab]
    }

    /// Draws a token from row `row` of the logits, with the history of a sequence of `position` tokens. Token 0 if there is no
    /// such row.
    pub(crate) fn sample_row(
        &mut self,
        sampler: &mut Sampler<'_>,
        row: usize,
        (slot, position): (usize, usize),
    ) -> Token {
        let (vocab, context) = (self.plan.config().vocab, self.plan.options().context);
        let b = &mut self.buffers;
        let logits = &mut b.logits[..self.logit_rows * vocab];
        let logits = logits.get_mut(row * vocab..(row + 1) * vocab).unwrap_or(&mut []);
        sampler.sample(logits, &b.history[slot * context..][..position], b.candidates)
    }
}

//! Every buffer that inference writes.

use super::arena::{Carve, MemoryError};
use super::kv_cache::KvCache;
use super::options::PlanOptions;
use super::part::BatchPart;
use crate::Token;
use crate::format::{Config, GROUP};
use crate::kernels::{QuantGroup, partials_len, tiled_groups};
use crate::sampler::Candidate;

/// All buffers that inference writes: its only mutable state.
pub(crate) struct Buffers<'m> {
    /// The parts of the current batch, up to one for each sequence.
    pub(crate) parts: &'m mut [BatchPart],
    /// Tokens in each sequence, for whoever drives several.
    pub(crate) positions: &'m mut [usize],
    /// Tokens of the sequences so far, `[sequences, context]`.
    pub(crate) history: &'m mut [Token],
    /// Residual stream, `[batch, hidden]`.
    pub(crate) x: &'m mut [f32],
    /// `x` after the norm.
    pub(crate) normed: &'m mut [f32],
    pub(crate) query: &'m mut [f32],
    pub(crate) key: &'m mut [f32],
    pub(crate) value: &'m mut [f32],
    pub(crate) attended: &'m mut [f32],
    pub(crate) gate: &'m mut [f32],
    pub(crate) up: &'m mut [f32],
    /// The quantized input of the next product.
    pub(crate) groups: &'m mut [QuantGroup],
    /// The quantized input of the down projection for a single token, written while `groups` is still read.
    pub(crate) next_groups: &'m mut [QuantGroup],
    /// Inputs times the narrow matrices of an adapter, `[batch, rank]` for each of three products that share an input.
    pub(crate) low_rank: &'m mut [f32],
    /// Partial results of attention, of each part of a batch.
    pub(crate) partials: &'m mut [f32],
    /// RoPE frequencies, `[head_dim / 2]`.
    pub(crate) frequencies: &'m mut [f32],
    pub(crate) cos: &'m mut [f32],
    pub(crate) sin: &'m mut [f32],
    /// Ones in place of `cos` for layers without RoPE, if there are any.
    pub(crate) no_cos: &'m mut [f32],
    /// Zeros in place of `sin`.
    pub(crate) no_sin: &'m mut [f32],
    pub(crate) logits: &'m mut [f32],
    /// Scratch memory of the sampler, `[vocab]`.
    pub(crate) candidates: &'m mut [Candidate],
    pub(crate) cache: KvCache<'m>,
}

impl<'m> Buffers<'m> {
    /// Takes every buffer from `memory`, in a fixed order; `tile` is the kernels' number of tokens in a full tile.
    pub(crate) fn carve(
        config: &Config,
        options: &PlanOptions,
        tile: usize,
        memory: &mut impl Carve<'m>,
    ) -> Result<Self, MemoryError> {
        let batch = options.batch;
        let rows = |columns: usize| batch.checked_mul(columns);
        let widest = config.hidden.max(config.q_dim()).max(config.ffn);
        let groups = if options.exact { Some(0) } else { tiled_groups(batch, widest, tile) };
        let next_groups = Some(if options.exact { 0 } else { config.ffn.div_ceil(GROUP) });
        let half = config.head_dim / 2;
        let partials = partials_len(config.heads, config.head_dim, options.context);
        let without_rope = if config.pattern.any_without_rope() { half } else { 0 };
        Ok(Buffers {
            parts: memory.take(Some(options.sequences))?,
            positions: memory.take(Some(options.sequences))?,
            history: memory.take(options.sequences.checked_mul(options.context))?,
            x: memory.take(rows(config.hidden))?,
            normed: memory.take(rows(config.hidden))?,
            query: memory.take(rows(config.q_dim()))?,
            key: memory.take(rows(config.kv_dim()))?,
            value: memory.take(rows(config.kv_dim()))?,
            attended: memory.take(rows(config.q_dim()))?,
            gate: memory.take(rows(config.ffn))?,
            up: memory.take(rows(config.ffn))?,
            groups: memory.take(groups)?,
            next_groups: memory.take(next_groups)?,
            low_rank: memory.take(options.adapter_rank.checked_mul(3).and_then(rows))?,
            partials: memory.take(partials.and_then(|partials| partials.checked_mul(options.sequences)))?,
            frequencies: memory.take(Some(half))?,
            cos: memory.take(rows(half))?,
            sin: memory.take(rows(half))?,
            no_cos: memory.take(rows(without_rope))?,
            no_sin: memory.take(rows(without_rope))?,
            logits: memory.take(options.logit_rows.checked_mul(config.vocab))?,
            candidates: memory.take(Some(config.vocab))?,
            cache: KvCache::carve(config, options, memory)?,
        })
    }
}

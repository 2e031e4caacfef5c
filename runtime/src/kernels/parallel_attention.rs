//! Attention on a thread pool: shards are heads, and tokens of a batch or spans of positions.

use super::attention::{AttendOutput, SPAN, merge, partial_width};
use super::parallel::ParallelKernels;
use super::{AttendJob, Disjoint, KvHead, KvHeadMut, QuantGroup, Rope, StoreJob, ThreadPool};
use crate::format::{GROUP, LayerOptions};
use crate::memory::{KvCache, KvShared};
use core::ops::Range;

/// Tokens in one shard of attention.
const ATTEND_TOKENS: usize = 16;

impl<T: ThreadPool> ParallelKernels<'_, T> {
    /// Applies RoPE, stores keys and values in the cache, and computes attention to `out`; also quantizes `out` to tiles in
    /// `groups`, if given. Queries and `out` are `[tokens, heads * head_dim]`, keys and values
    /// `[tokens, kv_heads * head_dim]`; `partials` is scratch memory of [`partials_len`] numbers.
    pub(crate) fn attend(
        &self,
        batch: &AttentionBatch<'_>,
        [queries, keys, values]: [&[f32]; 3],
        cache: &mut KvCache<'_>,
        partials: &mut [f32],
        out: &mut [f32],
        groups: Option<&mut [QuantGroup]>,
    ) {
        let columns = batch.heads * batch.head_dim;
        let cache = cache.shared();
        let whole = 0..cache.layout.positions(batch.layer);
        if batch.tokens == 1 {
            return self.attend_one(batch, [queries, keys, values], &cache, partials, out, groups);
        }
        let store = |head: usize| {
            // SAFETY: each head is one shard, or is stored by the one shard that then attends to it.
            let kv = unsafe { head_of(&cache, batch.layer, head, whole.clone()) };
            (self.kernels.store)(&mut batch.store(head, keys, values, 0, kv));
        };
        let output = Disjoint::new(&mut *out);
        let tiles = batch.tokens.div_ceil(ATTEND_TOKENS);
        let attend = |shard: usize| {
            // The last tokens attend to most positions: start with them, so that no long shard is left at the end.
            let (tile, head) = (tiles - 1 - shard / batch.kv_heads, shard % batch.kv_heads);
            let first = tile * ATTEND_TOKENS;
            let tokens = first..(first + ATTEND_TOKENS).min(batch.tokens);
            // SAFETY: no shard writes the heads any more; several may read the same.
            let kv = unsafe { head_to_read(&cache, batch.layer, head, whole.clone()) };
            (self.kernels.attend)(&batch.attend(head, queries, tokens, 0, kv, AttendOutput::Final(output)));
        };
        if tiles == 1 {
            self.pool.run(batch.kv_heads, &|head| {
                store(head);
                attend(head);
            });
        } else {
            self.pool.run(batch.kv_heads, &store);
            self.pool.run(tiles * batch.kv_heads, &attend);
        }
        if groups.is_some() {
            self.prepare(&out[..batch.tokens * columns], columns, None, groups);
        }
    }

    /// The same for a single token: shards are spans of positions.
    fn attend_one(
        &self,
        batch: &AttentionBatch<'_>,
        [queries, keys, values]: [&[f32]; 3],
        cache: &KvShared<'_>,
        partials: &mut [f32],
        out: &mut [f32],
        groups: Option<&mut [QuantGroup]>,
    ) {
        let (group, dim) = (batch.heads / batch.kv_heads, batch.head_dim);
        // Spans before the window have no shard.
        let first = batch.options.first_attended(batch.position) / SPAN;
        let spans = batch.position / SPAN + 1 - first;
        let width = partial_width(dim);
        // Whether each shard computes a final result of whole groups, and so can quantize it.
        let quantizes = spans == 1 && (group * dim).is_multiple_of(GROUP);
        let (all_partials, output) = (Disjoint::new(&mut *partials), Disjoint::new(&mut *out));
        let mut groups = groups;
        let all_groups = groups.as_deref_mut().filter(|_| quantizes).map(Disjoint::new);
        let job = |shard: usize| {
            let (head, span) = (shard / spans, shard % spans);
            let start = (first + span) * SPAN;
            let positions = start..(start + SPAN).min(cache.layout.positions(batch.layer));
            // SAFETY: each span of each head is one shard.
            let mut kv = unsafe { head_of(cache, batch.layer, head, positions) };
            if span + 1 == spans {
                let mut job = batch.store(head, keys, values, start, kv);
                (self.kernels.store)(&mut job);
                kv = job.kv;
            }
            let output_of_span = match spans {
                1 => AttendOutput::Final(output),
                _ => {
                    // SAFETY: as above.
                    let partial = unsafe { all_partials.slice(shard * group * width, group * width) };
                    AttendOutput::Partial(Disjoint::new(partial))
                }
            };
            (self.kernels.attend)(&batch.attend(head, queries, 0..1, start, kv.shared(), output_of_span));
            if let Some(groups) = &all_groups {
                let each = group * dim / GROUP;
                // SAFETY: the head's own numbers, which the kernel's references to have ended, and groups of them.
                let own = unsafe { output.slice(head * group * dim, group * dim) };
                // SAFETY: as above.
                let groups = unsafe { groups.slice(head * each, each) };
                (self.kernels.quantize_tile)(own, own.len(), 1, groups);
            }
        };
        self.pool.run(batch.kv_heads * spans, &job);
        let out = &mut out[..batch.heads * dim];
        if spans > 1 {
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                let first = (head / group * spans * group + head % group) * width;
                merge(&partials[first..][..((spans - 1) * group + 1) * width], group * width, out);
            }
        }
        if !quantizes && groups.is_some() {
            self.prepare(out, out.len(), None, groups);
        }
    }
}

/// Numbers of scratch memory that [`ParallelKernels::attend`] needs for `positions`; `None` on overflow.
pub(crate) fn partials_len(heads: usize, head_dim: usize, positions: usize) -> Option<usize> {
    let spans = positions.div_ceil(SPAN);
    if spans == 1 { Some(0) } else { (heads * partial_width(head_dim)).checked_mul(spans) }
}

/// Keys and values of some positions of one head.
///
/// # Safety
/// No other reference to them is alive.
unsafe fn head_of<'a>(
    cache: &KvShared<'a>,
    layer: usize,
    head: usize,
    positions: Range<usize>,
) -> KvHeadMut<'a> {
    let (keys, values, scales) = cache.layout.ranges(layer, head, positions);
    // SAFETY: the caller's promise. (Four times.)
    let key_bytes = unsafe { cache.keys.slice(keys.start, keys.len()) };
    // SAFETY: as above.
    let value_bytes = unsafe { cache.values.slice(values.start, values.len()) };
    // SAFETY: as above.
    let key_scales = unsafe { cache.key_scales.slice(scales.start, scales.len()) };
    // SAFETY: as above.
    let value_scales = unsafe { cache.value_scales.slice(scales.start, scales.len()) };
    KvHeadMut { kind: cache.layout.kind, keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// The same, read-only.
///
/// # Safety
/// No mutable reference to them is alive.
unsafe fn head_to_read<'a>(
    cache: &KvShared<'a>,
    layer: usize,
    head: usize,
    positions: Range<usize>,
) -> KvHead<'a> {
    let (keys, values, scales) = cache.layout.ranges(layer, head, positions);
    // SAFETY: the caller's promise. (Four times.)
    let key_bytes = unsafe { cache.keys.read(keys.start, keys.len()) };
    // SAFETY: as above.
    let value_bytes = unsafe { cache.values.read(values.start, values.len()) };
    // SAFETY: as above.
    let key_scales = unsafe { cache.key_scales.read(scales.start, scales.len()) };
    // SAFETY: as above.
    let value_scales = unsafe { cache.value_scales.read(scales.start, scales.len()) };
    KvHead { kind: cache.layout.kind, keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// The batch and the shape of an attention operation.
pub(crate) struct AttentionBatch<'a> {
    pub(crate) layer: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) tokens: usize,
    /// Position of the batch's first token, counted from the base of the layer's regions.
    pub(crate) position: usize,
    pub(crate) options: LayerOptions,
    pub(crate) rope: Rope<'a>,
}

impl AttentionBatch<'_> {
    /// The job that stores one head's keys and values in `kv`, whose first position is `start`.
    fn store<'a>(
        &'a self,
        head: usize,
        keys: &'a [f32],
        values: &'a [f32],
        start: usize,
        kv: KvHeadMut<'a>,
    ) -> StoreJob<'a> {
        StoreJob {
            keys,
            values,
            stride: self.kv_heads * self.head_dim,
            column: head * self.head_dim,
            head_dim: self.head_dim,
            tokens: self.tokens,
            position: self.position - start,
            rope: self.rope,
            kv,
        }
    }

    /// The job that computes attention of `tokens` for one head; the first position of `kv` is `start`.
    fn attend<'a>(
        &'a self,
        head: usize,
        queries: &'a [f32],
        tokens: Range<usize>,
        start: usize,
        kv: KvHead<'a>,
        output: AttendOutput<'a>,
    ) -> AttendJob<'a> {
        let group = self.heads / self.kv_heads;
        let positions = kv.values.len() / (self.head_dim.next_multiple_of(16) * kv.kind.bytes());
        AttendJob {
            queries,
            stride: self.heads * self.head_dim,
            column: head * group * self.head_dim,
            group,
            head_dim: self.head_dim,
            tokens,
            position: self.position - start,
            window: self.options.window.unwrap_or(usize::MAX),
            scale: self.options.score_scale(self.head_dim),
            rope: self.rope,
            kv,
            positions,
            output,
        }
    }
}

//! Kernels on a thread pool. How work is split into shards does not affect the arithmetic: the output is identical, bit for
//! bit, for any number of threads.

use super::attention::{AttendOutput, SPAN, merge, partial_width};
use super::matmul_job::{Input, MatmulJob, Output, tile_width};
use super::{
    AttendJob, Disjoint, Kernels, KvHead, KvHeadMut, Matrix, QuantGroup, Rope, StoreJob, ThreadPool,
};
use crate::format::{GROUP, PANEL};
use crate::memory::{KvCache, KvShared};
use core::ops::Range;

/// Tokens in one shard of attention.
const ATTEND_TOKENS: usize = 16;

/// The kernels and the thread pool that runs them.
pub(crate) struct ParallelKernels<'t, T: ThreadPool> {
    pub(crate) kernels: Kernels,
    pub(crate) pool: &'t T,
}

/// A matrix product; several can share an input.
pub(crate) struct Product<'a> {
    pub(crate) matrix: Matrix<'a>,
    /// `[tokens, rows]`.
    pub(crate) out: &'a mut [f32],
    pub(crate) add: bool,
}

/// Range `shard` of `0..count`, split into `shards` nearly equal ranges.
fn shard_range(count: usize, shards: usize, shard: usize) -> Range<usize> {
    count * shard / shards..count * (shard + 1) / shards
}

impl<T: ThreadPool> ParallelKernels<'_, T> {
    /// Number of shards for `items` of work: a few per thread, so that a slow shard costs little.
    fn shards(&self, items: usize) -> usize {
        let threads = self.pool.threads();
        if threads == 1 { 1 } else { items.min(threads * 4) }
    }

    /// Applies an RMS norm (weight, epsilon, output) to rows, if given, and quantizes the result to tiles in `groups`, if given.
    pub(crate) fn prepare(
        &self,
        rows: &[f32],
        columns: usize,
        norm: Option<(&[f32], f32, &mut [f32])>,
        groups: Option<&mut [QuantGroup]>,
    ) {
        let tokens = rows.len() / columns;
        let tile = self.kernels.tile;
        let norm = norm.map(|(weight, epsilon, out)| (weight, epsilon, Disjoint::new(out)));
        let groups = groups.map(Disjoint::new);
        let job = |shard: usize| {
            let first = shard * tile;
            let count = tile.min(tokens - first);
            let mut rows = &rows[first * columns..(first + count) * columns];
            if let Some((weight, epsilon, out)) = &norm {
                // SAFETY: each shard has its own tile of tokens, and so its own rows of the output.
                let out = unsafe { out.slice(first * columns, count * columns) };
                for (row, out) in rows.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
                    (self.kernels.norm)(row, weight, *epsilon, out);
                }
                rows = out;
            }
            if let Some(groups) = &groups {
                let width = tile_width(count, tile);
                let per_token = columns.div_ceil(GROUP);
                // SAFETY: full tiles stand one after the other and only the last is narrower, so that the
                // shards' tiles do not overlap.
                let groups = unsafe { groups.slice(first * per_token, width * per_token) };
                (self.kernels.quantize_tile)(rows, columns, width, groups);
            }
        };
        self.pool.run(tokens.div_ceil(tile), &job);
    }

    /// Multiplies one input with several matrices.
    pub(crate) fn multiply<const N: usize>(&self, input: Input<'_>, products: [Product<'_>; N]) {
        let panels = products.iter().map(|product| product.matrix.panels()).sum();
        let shards = self.shards(panels);
        let products = products.map(|product| {
            let output =
                Output { stride: product.matrix.rows, add: product.add, data: Disjoint::new(product.out) };
            (product.matrix, output)
        });
        let job = |shard: usize| {
            let mine = shard_range(panels, shards, shard);
            let mut first = 0;
            for &(matrix, output) in &products {
                let range = first..first + matrix.panels();
                let panels = mine.start.max(range.start)..mine.end.min(range.end);
                if !panels.is_empty() {
                    let panels = panels.start - first..panels.end - first;
                    (self.kernels.matmul)(&MatmulJob { matrix, panels, input, output });
                }
                first = range.end;
            }
        };
        self.pool.run(shards, &job);
    }

    /// `gate = silu(gate matrix x input) * (up matrix x input)`, both `[tokens, rows]`. For a single token also
    /// quantizes `gate` to `next`, if given.
    pub(crate) fn gate_up(
        &self,
        input: Input<'_>,
        gate: Product<'_>,
        up: Product<'_>,
        next: Option<&mut [QuantGroup]>,
    ) {
        let (rows, panels) = (gate.matrix.rows, gate.matrix.panels());
        // Two panels of rows are one group of the output.
        let pairs = panels.div_ceil(GROUP / PANEL);
        let shards = self.shards(pairs);
        let (gate_out, up_out) = (Disjoint::new(gate.out), Disjoint::new(up.out));
        let next = next.filter(|_| input.tokens == 1).map(Disjoint::new);
        let job = |shard: usize| {
            let pairs = shard_range(pairs, shards, shard);
            let panels = pairs.start * (GROUP / PANEL)..(pairs.end * (GROUP / PANEL)).min(panels);
            for (matrix, data) in [(gate.matrix, gate_out), (up.matrix, up_out)] {
                let output = Output { data, stride: rows, add: false };
                (self.kernels.matmul)(&MatmulJob { matrix, panels: panels.clone(), input, output });
            }
            let mine = panels.start * PANEL..(panels.end * PANEL).min(rows);
            for token in 0..input.tokens {
                // SAFETY: the rows of these panels belong to this shard, and the products' references to
                // them have ended.
                let gate = unsafe { gate_out.slice(token * rows + mine.start, mine.len()) };
                // SAFETY: as above.
                let up = unsafe { up_out.slice(token * rows + mine.start, mine.len()) };
                (self.kernels.swiglu)(gate, up);
                if let Some(next) = &next {
                    // SAFETY: whole groups of these rows, of the only token.
                    let next = unsafe { next.slice(pairs.start, pairs.len()) };
                    (self.kernels.quantize_tile)(gate, gate.len(), 1, next);
                }
            }
        };
        self.pool.run(shards, &job);
    }

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
        let first = (batch.position + 1).saturating_sub(batch.window) / SPAN;
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
    /// Positions that a token attends to, itself included; [`usize::MAX`]: all.
    pub(crate) window: usize,
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
            window: self.window,
            rope: self.rope,
            kv,
            positions,
            output,
        }
    }
}

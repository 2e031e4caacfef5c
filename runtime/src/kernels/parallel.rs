//! Kernels on a pool of threads. What a number is made from never depends on how the work was cut, so the
//! output is the same, bit for bit, for any number of threads.

use super::attention::{Answer, SPAN, merge, part_width};
use super::matmul_job::{Input, MatmulJob, Output, tile_width};
use super::{
    AttendJob, Disjoint, Kernels, KvHead, KvHeadMut, Matrix, QuantGroup, Rope, StoreJob, ThreadPool,
};
use crate::format::{GROUP, PANEL};
use crate::memory::{KvCache, KvShared};
use core::ops::Range;

/// Tokens that one shard of attention takes.
const ATTEND_TOKENS: usize = 16;

/// The kernels and who runs them.
pub(crate) struct ParallelKernels<'t, T: ThreadPool> {
    pub(crate) kernels: Kernels,
    pub(crate) pool: &'t T,
}

/// One product of an operation that makes several from the same input.
pub(crate) struct Product<'a> {
    pub(crate) matrix: Matrix<'a>,
    /// `[tokens, rows]`.
    pub(crate) out: &'a mut [f32],
    pub(crate) add: bool,
}

/// Part `shard` of `0..count` cut into `shards` nearly equal ranges.
fn part(count: usize, shards: usize, shard: usize) -> Range<usize> {
    count * shard / shards..count * (shard + 1) / shards
}

impl<T: ThreadPool> ParallelKernels<'_, T> {
    /// Shards for `pieces` of work: a few for each thread, so that a slow one costs little.
    fn shards(&self, pieces: usize) -> usize {
        let threads = self.pool.threads();
        if threads == 1 { 1 } else { pieces.min(threads * 4) }
    }

    /// Norms rows (where `norm` gives a weight and an epsilon; else takes `rows` as they are) and quantizes
    /// them into tiles where `groups` is given.
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

    /// Products of one input with several matrices.
    pub(crate) fn multiply<const N: usize>(&self, input: Input<'_>, products: [Product<'_>; N]) {
        let panels = products.iter().map(|product| product.matrix.panels()).sum();
        let shards = self.shards(panels);
        let products = products.map(|product| {
            let output =
                Output { stride: product.matrix.rows, add: product.add, data: Disjoint::new(product.out) };
            (product.matrix, output)
        });
        let job = |shard: usize| {
            let mine = part(panels, shards, shard);
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

    /// `gate = silu(gate matrix x input) * (up matrix x input)`, both `[tokens, rows]`, and of a single token the groups of
    /// `gate` in `next`, where it is given.
    pub(crate) fn gate_up(
        &self,
        input: Input<'_>,
        gate: Product<'_>,
        up: Product<'_>,
        next: Option<&mut [QuantGroup]>,
    ) {
        let (rows, panels) = (gate.matrix.rows, gate.matrix.panels());
        // Two panels are a group of what comes out.
        let pairs = panels.div_ceil(GROUP / PANEL);
        let shards = self.shards(pairs);
        let (gate_out, up_out) = (Disjoint::new(gate.out), Disjoint::new(up.out));
        let next = next.filter(|_| input.tokens == 1).map(Disjoint::new);
        let job = |shard: usize| {
            let pairs = part(pairs, shards, shard);
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

    /// Puts rotated keys, and values, into the cache, and lets rotated queries attend to it, into `out`; quantizes that
    /// into tiles where `groups` is given. Queries and `out` are `[tokens, heads * head_dim]`, keys and values
    /// `[tokens, kv_heads * head_dim]`; `parts` is scratch of [`parts`] numbers.
    pub(crate) fn attend(
        &self,
        place: &Place<'_>,
        [queries, keys, values]: [&[f32]; 3],
        cache: &mut KvCache<'_>,
        parts: &mut [f32],
        out: &mut [f32],
        groups: Option<&mut [QuantGroup]>,
    ) {
        let columns = place.heads * place.head_dim;
        let cache = cache.shared();
        let whole = 0..cache.layout.positions();
        if place.tokens == 1 {
            return self.attend_one(place, [queries, keys, values], &cache, parts, out, groups);
        }
        let store = |head: usize| {
            // SAFETY: each head is one shard, or is stored by the one shard that then attends to it.
            let mut kv = unsafe { head_of(&cache, place.layer, head, whole.clone()) };
            (self.kernels.store)(&mut place.store(head, keys, values, 0, &mut kv));
        };
        let output = Disjoint::new(&mut *out);
        let tiles = place.tokens.div_ceil(ATTEND_TOKENS);
        let attend = |shard: usize| {
            // The last tokens see most: they go first, so that no thread is left with a long one at the end.
            let (tile, head) = (tiles - 1 - shard / place.kv_heads, shard % place.kv_heads);
            let first = tile * ATTEND_TOKENS;
            let tokens = first..(first + ATTEND_TOKENS).min(place.tokens);
            // SAFETY: the heads are written no more; several shards read the same.
            let kv = unsafe { head_to_read(&cache, place.layer, head, whole.clone()) };
            (self.kernels.attend)(&place.attend(head, queries, tokens, 0, kv, Answer::Whole(output)));
        };
        if tiles == 1 {
            self.pool.run(place.kv_heads, &|head| {
                store(head);
                attend(head);
            });
        } else {
            self.pool.run(place.kv_heads, &store);
            self.pool.run(tiles * place.kv_heads, &attend);
        }
        if groups.is_some() {
            self.prepare(&out[..place.tokens * columns], columns, None, groups);
        }
    }

    /// The same for one token, its positions spread over shards.
    fn attend_one(
        &self,
        place: &Place<'_>,
        [queries, keys, values]: [&[f32]; 3],
        cache: &KvShared<'_>,
        parts: &mut [f32],
        out: &mut [f32],
        groups: Option<&mut [QuantGroup]>,
    ) {
        let (group, dim) = (place.heads / place.kv_heads, place.head_dim);
        let spans = place.position / SPAN + 1;
        let width = part_width(dim);
        // One head's numbers, or whole groups of them.
        let alone = spans == 1 && (group * dim).is_multiple_of(GROUP);
        let (all_parts, output) = (Disjoint::new(&mut *parts), Disjoint::new(&mut *out));
        let mut groups = groups;
        let all_groups = groups.as_deref_mut().filter(|_| alone).map(Disjoint::new);
        let job = |shard: usize| {
            let (head, span) = (shard / spans, shard % spans);
            let start = span * SPAN;
            let positions = start..(start + SPAN).min(cache.layout.positions());
            // SAFETY: each span of each head is one shard.
            let mut kv = unsafe { head_of(cache, place.layer, head, positions) };
            if span + 1 == spans {
                (self.kernels.store)(&mut place.store(head, keys, values, start, &mut kv));
            }
            let answer = match spans {
                1 => Answer::Whole(output),
                _ => {
                    // SAFETY: as above.
                    let part = unsafe { all_parts.slice(shard * group * width, group * width) };
                    Answer::Part(Disjoint::new(part))
                }
            };
            (self.kernels.attend)(&place.attend(head, queries, 0..1, start, kv.shared(), answer));
            if let Some(groups) = &all_groups {
                let each = group * dim / GROUP;
                // SAFETY: the head's own numbers, which the kernel's references to have ended, and groups of them.
                let own = unsafe { output.slice(head * group * dim, group * dim) };
                // SAFETY: as above.
                let groups = unsafe { groups.slice(head * each, each) };
                (self.kernels.quantize_tile)(own, own.len(), 1, groups);
            }
        };
        self.pool.run(place.kv_heads * spans, &job);
        let out = &mut out[..place.heads * dim];
        if spans > 1 {
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                let first = (head / group * spans * group + head % group) * width;
                merge(&parts[first..][..((spans - 1) * group + 1) * width], group * width, out);
            }
        }
        if !alone && groups.is_some() {
            self.prepare(out, out.len(), None, groups);
        }
    }
}

/// Numbers of scratch that [`ParallelKernels::attend`] needs for so many positions; `None` where that overflows.
pub(crate) fn parts(heads: usize, head_dim: usize, positions: usize) -> Option<usize> {
    let spans = positions.div_ceil(SPAN);
    if spans == 1 { Some(0) } else { (heads * part_width(head_dim)).checked_mul(spans) }
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
    KvHeadMut { kind: cache.layout.kind(), keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// The same, to be read.
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
    KvHead { kind: cache.layout.kind(), keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// Where in model and sequence an attention operation works.
pub(crate) struct Place<'a> {
    pub(crate) layer: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) tokens: usize,
    /// Position of the batch's first token.
    pub(crate) position: usize,
    pub(crate) rope: Rope<'a>,
}

impl Place<'_> {
    /// Storing one head's keys and values in `kv`, whose first position is `start`.
    fn store<'a>(
        &'a self,
        head: usize,
        keys: &'a [f32],
        values: &'a [f32],
        start: usize,
        kv: &'a mut KvHeadMut<'_>,
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
            kv: kv.reborrow(),
        }
    }

    /// Attention of some tokens to one head, whose first position in `kv` is `start`.
    fn attend<'a>(
        &'a self,
        head: usize,
        queries: &'a [f32],
        tokens: Range<usize>,
        start: usize,
        kv: KvHead<'a>,
        output: Answer<'a>,
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
            rope: self.rope,
            kv,
            positions,
            output,
        }
    }
}

//! Kernels on a team of threads. What a number is made from never depends on how the work was cut, so the
//! output is the same, bit for bit, for any number of threads.

use super::matmul::{Input, MatmulJob, Output, tile_width};
use super::{AttendJob, Disjoint, Kernels, KvHeadMut, Matrix, QuantGroup, Rope, StoreJob, Team};
use crate::format::{GROUP, PANEL};
use crate::kv_cache::{KvCache, KvShared};
use core::ops::Range;

/// Tokens that one shard of attention takes.
const ATTEND_TOKENS: usize = 16;

/// The kernels and who runs them.
pub(crate) struct Crew<'t, T: Team> {
    pub(crate) kernels: Kernels,
    pub(crate) team: &'t T,
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

impl<T: Team> Crew<'_, T> {
    /// Shards for `pieces` of work: a few for each thread, so that a slow one costs little.
    fn shards(&self, pieces: usize) -> usize {
        let threads = self.team.threads();
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
        self.team.run(tokens.div_ceil(tile), &job);
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
        self.team.run(shards, &job);
    }

    /// `gate = silu(gate matrix x input) * (up matrix x input)`, both `[tokens, rows]`.
    pub(crate) fn gate_up(&self, input: Input<'_>, gate: Product<'_>, up: Product<'_>) {
        let (rows, panels) = (gate.matrix.rows, gate.matrix.panels());
        let shards = self.shards(panels);
        let (gate_out, up_out) = (Disjoint::new(gate.out), Disjoint::new(up.out));
        let job = |shard: usize| {
            let panels = part(panels, shards, shard);
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
            }
        };
        self.team.run(shards, &job);
    }

    /// Rotates keys and puts keys and values, `[tokens, kv_heads * head_dim]`, into the cache.
    pub(crate) fn store(&self, place: &Place<'_>, keys: &[f32], values: &[f32], cache: &mut KvCache<'_>) {
        let KvShared { layout, keys: all_keys, values: all_values, key_scales, value_scales } =
            cache.shared();
        let job = |head: usize| {
            let (key_range, value_range, scales) = layout.ranges(place.layer, head);
            // SAFETY: each head has its own region of each buffer, and each head is one shard. (Four times.)
            let kv_keys = unsafe { all_keys.slice(key_range.start, key_range.len()) };
            // SAFETY: as above.
            let kv_values = unsafe { all_values.slice(value_range.start, value_range.len()) };
            // SAFETY: as above.
            let key_scales = unsafe { key_scales.slice(scales.start, scales.len()) };
            // SAFETY: as above.
            let value_scales = unsafe { value_scales.slice(scales.start, scales.len()) };
            (self.kernels.store)(&mut StoreJob {
                keys,
                values,
                stride: place.kv_heads * place.head_dim,
                column: head * place.head_dim,
                head_dim: place.head_dim,
                tokens: place.tokens,
                position: place.position,
                rope: place.rope,
                kv: KvHeadMut {
                    kind: layout.kind(),
                    keys: kv_keys,
                    values: kv_values,
                    key_scales,
                    value_scales,
                },
            });
        };
        if place.tokens < ATTEND_TOKENS {
            // A hand-over to other threads costs more than the work.
            (0..place.kv_heads).for_each(job);
        } else {
            self.team.run(place.kv_heads, &job);
        }
    }

    /// Attention of `queries` to the cache, both `[tokens, heads * head_dim]`.
    pub(crate) fn attend(&self, place: &Place<'_>, queries: &[f32], cache: &KvCache<'_>, out: &mut [f32]) {
        let group = place.heads / place.kv_heads;
        let output = Disjoint::new(out);
        let tiles = place.tokens.div_ceil(ATTEND_TOKENS);
        let job = |shard: usize| {
            // The last tokens see most: they go first, so that no thread is left with a long one at the end.
            let (tile, head) = (tiles - 1 - shard / place.kv_heads, shard % place.kv_heads);
            let first = tile * ATTEND_TOKENS;
            (self.kernels.attend)(&AttendJob {
                queries,
                stride: place.heads * place.head_dim,
                column: head * group * place.head_dim,
                group,
                head_dim: place.head_dim,
                tokens: first..(first + ATTEND_TOKENS).min(place.tokens),
                position: place.position,
                rope: place.rope,
                kv: cache.head(place.layer, head),
                output,
            });
        };
        self.team.run(tiles * place.kv_heads, &job);
    }
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

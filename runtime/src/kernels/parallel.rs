//! Kernels on a thread pool. How work is split into shards does not affect the arithmetic: the output is identical, bit for
//! bit, for any number of threads.

use super::matmul_job::{Input, MatmulJob, Output, tile_width};
use super::{Disjoint, Kernels, Matrix, QuantGroup, ThreadPool};
use crate::format::{GROUP, MAX_HEAD_DIM, PANEL};
use core::ops::Range;

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

impl<'a> Product<'a> {
    /// The operands besides the input, with an output that shards share.
    fn into_operands(self) -> (Matrix<'a>, Output<'a>) {
        let output = Output { stride: self.matrix.rows, add: self.add, data: Disjoint::new(self.out) };
        (self.matrix, output)
    }
}

/// Tokens of a shard, at least, in [`ParallelKernels::multiply_narrow`]: a multiple of the kernels' tile, so that no tile is
/// cut.
const NARROW_TILE: usize = 16;

/// Rows of queries, keys or values, and what is done to them before RoPE; see [`ParallelKernels::adjust`].
pub(crate) struct Adjust<'a> {
    /// `[tokens, columns]`.
    pub(crate) rows: &'a mut [f32],
    pub(crate) columns: usize,
    /// `[columns]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Weight, `[head_dim]`, and epsilon.
    pub(crate) norm: Option<(&'a [f32], f32)>,
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
                let per_token = columns.div_ceil(GROUP);
                let mut start = first;
                while !rows.is_empty() {
                    let width = tile_width(rows.len() / columns, tile);
                    // SAFETY: tiles stand one after the other, full ones first, so that those of different shards do not
                    // overlap; a shard's own follow each other.
                    let groups = unsafe { groups.slice(start * per_token, width * per_token) };
                    let (tile_rows, after) = rows.split_at(rows.len().min(width * columns));
                    (self.kernels.quantize_tile)(tile_rows, columns, width, groups);
                    (start, rows) = (start + width, after);
                }
            }
        };
        self.pool.run(tokens.div_ceil(tile), &job);
    }

    /// Multiplies one input with several matrices.
    pub(crate) fn multiply<const N: usize>(&self, input: Input<'_>, products: [Product<'_>; N]) {
        self.multiply_each(products.map(|product| Some((input, product))));
    }

    /// Multiplies several inputs of the same number of tokens, each with its matrix.
    pub(crate) fn multiply_each<const N: usize>(&self, products: [Option<(Input<'_>, Product<'_>)>; N]) {
        let prefetch = self.kernels.prefetch;
        let panels = products.iter().flatten().map(|(_, product)| product.matrix.panels()).sum();
        let shards = self.shards(panels);
        let products =
            products.map(|product| product.map(|(input, product)| (input, product.into_operands())));
        let job = |shard: usize| {
            let mine = shard_range(panels, shards, shard);
            let mut first = 0;
            for &(input, (matrix, output)) in products.iter().flatten() {
                let range = first..first + matrix.panels();
                let panels = mine.start.max(range.start)..mine.end.min(range.end);
                if !panels.is_empty() {
                    let panels = panels.start - first..panels.end - first;
                    (self.kernels.matmul)(&MatmulJob { matrix, panels, input, output, prefetch });
                }
                first = range.end;
            }
        };
        self.pool.run(shards, &job);
    }

    /// [`ParallelKernels::multiply`] in f32 for matrices of few panels, which many tokens are cut for instead.
    pub(crate) fn multiply_narrow<const N: usize>(
        &self,
        input: Input<'_>,
        products: [Option<Product<'_>>; N],
    ) {
        if input.tokens <= NARROW_TILE {
            return self.multiply_each(products.map(|product| product.map(|product| (input, product))));
        }
        let prefetch = self.kernels.prefetch;
        let tiles = input.tokens.div_ceil(NARROW_TILE);
        let shards = self.shards(tiles);
        let products = products.map(|product| product.map(Product::into_operands));
        let job = |shard: usize| {
            let tiles = shard_range(tiles, shards, shard);
            let tokens = tiles.start * NARROW_TILE..(tiles.end * NARROW_TILE).min(input.tokens);
            for &(matrix, output) in products.iter().flatten() {
                let floats = &input.floats[tokens.start * matrix.columns..tokens.end * matrix.columns];
                let input = Input { floats, groups: None, tokens: tokens.len() };
                let output = Output { data: output.data.after(tokens.start * output.stride), ..output };
                let panels = 0..matrix.panels();
                (self.kernels.matmul)(&MatmulJob { matrix, panels, input, output, prefetch });
            }
        };
        self.pool.run(shards, &job);
    }

    /// `gate = silu(gate matrix x input) * (up matrix x input)`, both `[tokens, rows]`; either product is first added to what
    /// its output holds, if it says so. For a single token also quantizes `gate` to `next`, if given.
    pub(crate) fn gate_up(
        &self,
        input: Input<'_>,
        gate: Product<'_>,
        up: Product<'_>,
        next: Option<&mut [QuantGroup]>,
    ) {
        let prefetch = self.kernels.prefetch;
        let (rows, panels) = (gate.matrix.rows, gate.matrix.panels());
        // Two panels of rows are one group of the output.
        let pairs = panels.div_ceil(GROUP / PANEL);
        let shards = self.shards(pairs);
        let (gate_out, up_out) = (Disjoint::new(gate.out), Disjoint::new(up.out));
        let next = next.filter(|_| input.tokens == 1).map(Disjoint::new);
        let job = |shard: usize| {
            let pairs = shard_range(pairs, shards, shard);
            let panels = pairs.start * (GROUP / PANEL)..(pairs.end * (GROUP / PANEL)).min(panels);
            for (matrix, data, add) in [(gate.matrix, gate_out, gate.add), (up.matrix, up_out, up.add)] {
                let output = Output { data, stride: rows, add };
                (self.kernels.matmul)(&MatmulJob { matrix, panels: panels.clone(), input, output, prefetch });
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

    /// Adds a bias to each token's row of each of `rows`, then applies an RMS norm (weight, epsilon) to each of its heads.
    pub(crate) fn adjust(&self, tokens: usize, rows: [Adjust<'_>; 3]) {
        let rows =
            rows.map(|Adjust { rows, columns, bias, norm }| (Disjoint::new(rows), columns, bias, norm));
        let shards = self.shards(tokens);
        let job = |shard: usize| {
            let tokens = shard_range(tokens, shards, shard);
            for (rows, columns, bias, norm) in &rows {
                for token in tokens.clone() {
                    // SAFETY: each token belongs to one shard.
                    let row = unsafe { rows.slice(token * columns, *columns) };
                    for (x, bias) in row.iter_mut().zip(bias.unwrap_or(&[])) {
                        *x += bias;
                    }
                    let Some((weight, epsilon)) = norm else { continue };
                    for head in row.chunks_exact_mut(weight.len()) {
                        let mut before = [0.0; MAX_HEAD_DIM];
                        let before = &mut before[..head.len()];
                        before.copy_from_slice(head);
                        (self.kernels.norm)(before, weight, *epsilon, head);
                    }
                }
            }
        };
        self.pool.run(shards, &job);
    }
}

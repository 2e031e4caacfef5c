//! What a matrix product reads and writes, and how its tokens are cut into tiles.

use super::blocks::{Matrix, QuantGroup};
use super::shared::Disjoint;
use super::simd::Simd;
use crate::format::{GROUP, PANEL};
use core::ops::Range;

/// The inputs of a product: `tokens` rows, as f32 and, for the integer kernels, as tiles of groups.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[tokens, columns]`.
    pub floats: &'a [f32],
    /// Tiles as the kernels that quantize them lay them out; `None` multiplies in f32 whatever
    /// the encoding.
    pub groups: Option<&'a [QuantGroup]>,
    /// Rows.
    pub tokens: usize,
}

/// Where a product goes: row `t` of it to `data[t * stride + column ..]`.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// All shards' outputs; each writes its own rows' places.
    pub(super) data: Disjoint<'a, f32>,
    /// Numbers from one token to the next.
    pub stride: usize,
    /// Whether the product is added to what is there, as a residual connection does.
    pub add: bool,
}

/// One shard's part of a matrix product.
pub struct MatmulJob<'a> {
    /// The weights.
    pub matrix: Matrix<'a>,
    /// The panels that this shard computes.
    pub panels: Range<usize>,
    /// The activations.
    pub input: Input<'a>,
    /// The destination.
    pub output: Output<'a>,
}

/// Smallest tile width, of those that are compiled, that holds `tokens`; at most `most`.
pub(crate) fn tile_width(tokens: usize, most: usize) -> usize {
    for width in [1, 2, 3, 4, 5, 6, 8, 12, 16] {
        if tokens <= width && width <= most {
            return width;
        }
    }
    most
}

/// Groups that a tiled buffer takes for `tokens` rows of `columns` numbers with full tiles of `tile` tokens;
/// `None` where that overflows.
pub fn tiled_groups(tokens: usize, columns: usize, tile: usize) -> Option<usize> {
    let rest = tokens % tile;
    let rest = if rest == 0 { 0 } else { tile_width(rest, tile) };
    (tokens - tokens % tile + rest).checked_mul(columns.div_ceil(GROUP))
}

/// Writes one panel's result for one token.
#[inline(always)]
pub(super) fn put<S: Simd>(s: S, job: &MatmulJob<'_>, panel: usize, token: usize, sum: S::F) {
    let row = panel * PANEL;
    let rows = PANEL.min(job.matrix.rows - row);
    // SAFETY: a place of the output belongs to one row of the product, a row to one panel, and a panel to
    // one shard's job, so that no other reference to these places is alive.
    let places = unsafe { job.output.data.slice(token * job.output.stride + row, rows) };
    if let Some(places) = places.as_mut_array::<PANEL>() {
        let sum = if job.output.add { s.add(s.load(places), sum) } else { sum };
        s.store(sum, places);
        return;
    }
    for (place, sum) in places.iter_mut().zip(s.array(sum)) {
        *place = if job.output.add { *place + sum } else { sum };
    }
}

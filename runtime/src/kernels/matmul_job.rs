//! The operands of a matrix product, and the tiles of its tokens.

use super::blocks::{Matrix, QuantGroup};
use super::shared::Disjoint;
use super::simd::Simd;
use crate::format::{GROUP, PANEL};
use core::ops::Range;

/// The input of a product: `tokens` rows, as f32 and, for the integer kernels, as tiles of quantized groups.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[tokens, columns]`.
    pub floats: &'a [f32],
    /// Tiles in the layout of the kernels that quantized them; `None` multiplies in f32.
    pub groups: Option<&'a [QuantGroup]>,
    /// Rows.
    pub tokens: usize,
}

/// The output of a product, `[tokens, stride]`.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// Shared by all shards; each writes the elements of its own rows.
    pub(super) data: Disjoint<'a, f32>,
    /// Elements per token.
    pub stride: usize,
    /// Whether to add the product to the output, as a residual connection does.
    pub add: bool,
}

/// One shard of a matrix product.
pub struct MatmulJob<'a> {
    /// The weights.
    pub matrix: Matrix<'a>,
    /// The panels to compute.
    pub panels: Range<usize>,
    /// The activations.
    pub input: Input<'a>,
    /// The destination.
    pub output: Output<'a>,
    /// Whether to prefetch weights, if the kernels do so for this product.
    pub prefetch: bool,
}

/// The width of the next tile for `tokens` that are left: at most `max_width`, which is the width of full tiles. It has room for
/// no more tokens than there are, because products are bound by arithmetic from two tokens on and those of missing tokens
/// cost as much; but AMX multiplies sixteen as fast as thirteen.
pub(crate) fn tile_width(tokens: usize, max_width: usize) -> usize {
    let width = match tokens {
        ..=6 | 8 | 12 => tokens,
        7 => 4,
        9..=11 => 6,
        _ => max_width,
    };
    width.min(max_width)
}

/// Number of groups in the tiles of `tokens` rows of `columns` elements, with `tile` tokens in a full tile; `None` on
/// overflow.
pub fn tiled_groups(tokens: usize, columns: usize, tile: usize) -> Option<usize> {
    let rest = tokens % tile;
    let rest = if tile_width(rest, tile) == tile { tile } else { rest };
    (tokens - tokens % tile + rest).checked_mul(columns.div_ceil(GROUP))
}

/// Writes one panel's sums for one token.
#[inline(always)]
pub(super) fn put<S: Simd>(s: S, job: &MatmulJob<'_>, panel: usize, token: usize, sum: S::F) {
    let row = panel * PANEL;
    let rows = PANEL.min(job.matrix.rows - row);
    // SAFETY: an element of the output belongs to one row and one token of the product, a row to one panel, and a panel of
    // a token to one shard's job, so that no other reference to these elements is alive.
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

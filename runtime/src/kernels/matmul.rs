//! Weight panels times a few tokens, the one loop that everything else waits for.

use super::block_product::{Block, add_integer};
use super::blocks::{
    Matrix, Q3NlBlock, Q4Block, Q4MinBlock, Q4NlBlock, Q5NlBlock, Q6Block, Q8Block, Q8RowBlock, QuantGroup,
};
use super::float_matmul::{exact_panel, float_panels};
use super::shared::Disjoint;
use super::simd::{Simd, Work};
use crate::format::{Encoding, GROUP, PANEL};
use core::marker::PhantomData;
use core::ops::Range;
use half::{bf16, f16};
use zerocopy::FromBytes;

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

/// Bytes of weights that a single token's product asks for in advance. Its loop waits for memory, and what the hardware
/// prefetches by itself ends with each page of 4 KB.
const AHEAD: usize = 4096;

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

/// The scales in front of a panel, if it has them, and its blocks.
#[inline(always)]
pub(super) fn header_and_blocks<'a, B: Block>(
    matrix: &Matrix<'a>,
    panel: usize,
) -> (Option<&'a [f32; PANEL]>, &'a [B]) {
    let data = matrix.panel(panel);
    let (header, data) = data.split_at(matrix.encoding.panel_header().min(data.len()));
    // The format's checks leave no panel of another length; an empty one would only yield zeros.
    (<[f32; PANEL]>::ref_from_bytes(header).ok(), <[B]>::ref_from_bytes(data).unwrap_or(&[]))
}

/// `sum` times the scales in front of its panel, where there are some.
#[inline(always)]
pub(super) fn scaled<S: Simd>(s: S, sum: S::F, header: Option<&[f32; PANEL]>) -> S::F {
    match header {
        Some(scales) => s.mul(sum, s.load(scales)),
        None => sum,
    }
}

/// Some panels times one tile of `W` tokens, with integer arithmetic.
struct IntegerTile<'j, 'a, B, const W: usize> {
    job: &'j MatmulJob<'a>,
    panels: Range<usize>,
    /// Of the tile's tokens.
    first: usize,
    tile: &'j [QuantGroup],
    block: PhantomData<B>,
}

impl<B: Block, const W: usize> Work for IntegerTile<'_, '_, B, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let IntegerTile { job, panels, first, tile, .. } = self;
        let (tile, _) = tile.as_chunks::<W>();
        for panel in panels {
            let (header, blocks) = header_and_blocks::<B>(&job.matrix, panel);
            let mut sums = [s.zero(); W];
            for (block, x) in blocks.iter().zip(tile) {
                if W == 1 {
                    s.prefetch(block, AHEAD, size_of::<B>());
                }
                add_integer(s, block, x, &mut sums);
            }
            for (t, sum) in sums.into_iter().enumerate().take(job.input.tokens - first) {
                put(s, job, panel, first + t, scaled(s, sum, header));
            }
        }
    }
}

/// All tokens of some panels with integer arithmetic.
fn integer_panels<S: Simd, B: Block>(s: S, job: &MatmulJob<'_>, panels: Range<usize>, groups: &[QuantGroup]) {
    let per_token = job.matrix.columns.div_ceil(GROUP);
    let mut first = 0;
    let mut rest = groups;
    while first < job.input.tokens {
        let width = tile_width(job.input.tokens - first, S::TILE);
        let (tile, after) = rest.split_at(width * per_token);
        macro_rules! tile {
            ($run:ident, $width:literal) => {
                s.$run(IntegerTile::<B, $width> {
                    job,
                    panels: panels.clone(),
                    first,
                    tile,
                    block: PhantomData,
                })
            };
        }
        match width {
            1 => tile!(run, 1),
            2 => tile!(run, 2),
            3 => tile!(run, 3),
            4 => tile!(run, 4),
            5 => tile!(run_wide, 5),
            6 => tile!(run_wide, 6),
            8 => tile!(run_wide, 8),
            _ => tile!(run_wide, 12),
        }
        first += width;
        rest = after;
    }
}

fn quantized_panels<S: Simd, B: Block>(s: S, job: &MatmulJob<'_>) {
    let panels = job.panels.clone();
    match job.input.groups {
        Some(groups) if job.input.tokens <= S::TILE => integer_panels::<S, B>(s, job, panels, groups),
        // A panel stays in the nearest cache while tile after tile passes.
        Some(groups) => {
            panels.for_each(|panel| integer_panels::<S, B>(s, job, panel..panel + 1, groups));
        }
        None => panels.for_each(|panel| exact_panel::<S, B>(s, job, panel)),
    }
}

/// Computes `job.panels` of `matrix x input`.
pub(crate) fn matmul<S: Simd>(s: S, job: &MatmulJob<'_>) {
    match job.matrix.encoding {
        Encoding::F32 | Encoding::Vector => float_panels::<S, f32>(s, job),
        Encoding::F16 => float_panels::<S, f16>(s, job),
        Encoding::BF16 => float_panels::<S, bf16>(s, job),
        Encoding::Q8 => quantized_panels::<S, Q8Block>(s, job),
        Encoding::Q8Row => quantized_panels::<S, Q8RowBlock>(s, job),
        Encoding::Q4 => quantized_panels::<S, Q4Block>(s, job),
        Encoding::Q4Min => quantized_panels::<S, Q4MinBlock>(s, job),
        Encoding::Q3Nl => quantized_panels::<S, Q3NlBlock>(s, job),
        Encoding::Q4Nl => quantized_panels::<S, Q4NlBlock>(s, job),
        Encoding::Q5Nl => quantized_panels::<S, Q5NlBlock>(s, job),
        Encoding::Q6 => quantized_panels::<S, Q6Block>(s, job),
    }
}

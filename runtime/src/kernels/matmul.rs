//! Weight panels times a few tokens, the one loop that everything else waits for.

use super::block_product::{Block, add_integer, dequantize};
use super::blocks::{
    Matrix, Q3NlBlock, Q4Block, Q4MinBlock, Q4NlBlock, Q5NlBlock, Q6Block, Q8Block, Q8RowBlock, QuantGroup,
};
use super::shared::Disjoint;
use super::simd::Simd;
use crate::format::{Encoding, GROUP, PANEL};
use core::ops::Range;
use half::{bf16, f16};
use zerocopy::FromBytes;

/// The inputs of a product: `tokens` rows, as f32 and, for the integer kernels, as tiles of groups.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[tokens, columns]`.
    pub floats: &'a [f32],
    /// Tiles as [`quantize_tile`](super::Kernels::quantize_tile) lays them out; `None` multiplies in f32 whatever
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

/// A number of a float panel.
trait Float: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout {
    fn load<S: Simd>(s: S, from: &[Self; PANEL]) -> S::F
    where
        Self: Sized;
}

impl Float for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f32; PANEL]) -> S::F {
        s.load(from)
    }
}

impl Float for f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f16; PANEL]) -> S::F {
        s.load_f16(from)
    }
}

impl Float for bf16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[bf16; PANEL]) -> S::F {
        s.load_bf16(from)
    }
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

/// All tokens of one panel with integer arithmetic; `scale` is the panel's row scale, if it has one.
#[inline(always)]
fn integer_panel<S: Simd, B: Block>(
    s: S,
    job: &MatmulJob<'_>,
    panel: usize,
    blocks: &[B],
    groups: &[QuantGroup],
    scale: Option<S::F>,
) {
    let mut first = 0;
    let mut rest = groups;
    while first < job.input.tokens {
        let width = tile_width(job.input.tokens - first, S::TILE);
        let (tile, after) = rest.split_at(width * blocks.len());
        let at = (panel, first);
        match width {
            1 => integer_tile::<S, B, 1>(s, job, at, blocks, tile, scale),
            2 => integer_tile::<S, B, 2>(s, job, at, blocks, tile, scale),
            3 => integer_tile::<S, B, 3>(s, job, at, blocks, tile, scale),
            4 if S::TILE > 4 => integer_tile::<S, B, 4>(s, job, at, blocks, tile, scale),
            // Only instantiated where the registers suffice.
            5 if S::TILE > 4 => integer_tile::<S, B, 5>(s, job, at, blocks, tile, scale),
            6 if S::TILE > 4 => integer_tile::<S, B, 6>(s, job, at, blocks, tile, scale),
            8 if S::TILE > 4 => integer_tile::<S, B, 8>(s, job, at, blocks, tile, scale),
            _ if S::TILE > 4 => integer_tile::<S, B, 12>(s, job, at, blocks, tile, scale),
            _ => integer_tile::<S, B, 4>(s, job, at, blocks, tile, scale),
        }
        first += width;
        rest = after;
    }
}

#[inline(always)]
fn integer_tile<S: Simd, B: Block, const W: usize>(
    s: S,
    job: &MatmulJob<'_>,
    (panel, first): (usize, usize),
    blocks: &[B],
    tile: &[QuantGroup],
    scale: Option<S::F>,
) {
    let mut sums = [s.zero(); W];
    for (block, x) in blocks.iter().zip(tile.as_chunks::<W>().0) {
        if W == 1 {
            s.prefetch(block, AHEAD, size_of::<B>());
        }
        add_integer(s, block, x, &mut sums);
    }
    for (t, sum) in sums.into_iter().enumerate().take(job.input.tokens - first) {
        let sum = match scale {
            Some(scale) => s.mul(sum, scale),
            None => sum,
        };
        put(s, job, panel, first + t, sum);
    }
}

/// Tokens that the f32 loops take at a time.
const FLOAT_TILE: usize = 4;

/// Adds `weights` (16 rows of one column) times column `k` of tokens `first..` to `sums`.
#[inline(always)]
fn float_step<S: Simd>(s: S, input: &[&[f32]; FLOAT_TILE], k: usize, w: S::F, sums: &mut [S::F; FLOAT_TILE]) {
    for t in 0..FLOAT_TILE {
        let x = input[t].get(k).copied().unwrap_or(0.0);
        sums[t] = s.mul_add(w, s.splat(x), sums[t]);
    }
}

/// The rows of up to four tokens, empty ones past the last.
#[inline(always)]
fn float_rows<'a>(job: &MatmulJob<'a>, first: usize) -> [&'a [f32]; FLOAT_TILE] {
    let columns = job.matrix.columns;
    let mut rows: [&[f32]; FLOAT_TILE] = [&[]; FLOAT_TILE];
    for (t, row) in rows.iter_mut().enumerate() {
        if first + t < job.input.tokens {
            *row = job.input.floats.get((first + t) * columns..(first + t + 1) * columns).unwrap_or(&[]);
        }
    }
    rows
}

#[inline(always)]
fn put_floats<S: Simd>(s: S, job: &MatmulJob<'_>, panel: usize, first: usize, sums: [S::F; FLOAT_TILE]) {
    for (t, sum) in sums.into_iter().enumerate().take(job.input.tokens - first) {
        put(s, job, panel, first + t, sum);
    }
}

/// All tokens of one quantized panel with f32 arithmetic.
#[inline(always)]
fn exact_panel<S: Simd, B: Block>(
    s: S,
    job: &MatmulJob<'_>,
    panel: usize,
    blocks: &[B],
    scale: Option<S::F>,
) {
    for first in (0..job.input.tokens).step_by(FLOAT_TILE) {
        let rows = float_rows(job, first);
        let mut sums = [s.zero(); FLOAT_TILE];
        let mut weights = [[0.0; PANEL]; GROUP];
        for (g, block) in blocks.iter().enumerate() {
            dequantize(s, block, &mut weights);
            for (k, weights) in weights.iter().enumerate() {
                let weights = s.load(weights);
                let weights = match scale {
                    Some(scale) => s.mul(weights, scale),
                    None => weights,
                };
                float_step(s, &rows, g * GROUP + k, weights, &mut sums);
            }
        }
        put_floats(s, job, panel, first, sums);
    }
}

/// All tokens of one float panel.
#[inline(always)]
fn float_panel<S: Simd, T: Float>(s: S, job: &MatmulJob<'_>, panel: usize, weights: &[[T; PANEL]]) {
    for first in (0..job.input.tokens).step_by(FLOAT_TILE) {
        let rows = float_rows(job, first);
        let mut sums = [s.zero(); FLOAT_TILE];
        for (k, weights) in weights.iter().enumerate() {
            float_step(s, &rows, k, T::load(s, weights), &mut sums);
        }
        put_floats(s, job, panel, first, sums);
    }
}

/// The scales in front of a panel, if it has them, and its blocks.
#[inline(always)]
pub(super) fn scale_and_blocks<'a, S: Simd, B: Block>(
    s: S,
    job: &MatmulJob<'a>,
    panel: usize,
) -> (Option<S::F>, &'a [B]) {
    let data = job.matrix.panel(panel);
    let (header, data) = data.split_at(job.matrix.encoding.panel_header().min(data.len()));
    // Not `map`: a closure does not take on the instruction set of the kernel's entry point.
    #[allow(clippy::manual_map)]
    let scale = match <[f32; PANEL]>::ref_from_bytes(header).ok() {
        Some(scales) => Some(s.load(scales)),
        None => None,
    };
    // The format's checks leave no panel of another length; an empty one would only yield zeros.
    (scale, <[B]>::ref_from_bytes(data).unwrap_or(&[]))
}

#[inline(always)]
fn quantized_panels<S: Simd, B: Block>(s: S, job: &MatmulJob<'_>) {
    for panel in job.panels.clone() {
        let (scale, blocks) = scale_and_blocks::<S, B>(s, job, panel);
        match job.input.groups {
            Some(groups) => integer_panel(s, job, panel, blocks, groups, scale),
            None => exact_panel(s, job, panel, blocks, scale),
        }
    }
}

#[inline(always)]
fn float_panels<S: Simd, T: Float>(s: S, job: &MatmulJob<'_>) {
    for panel in job.panels.clone() {
        let weights = <[[T; PANEL]]>::ref_from_bytes(job.matrix.panel(panel)).unwrap_or(&[]);
        float_panel(s, job, panel, weights);
    }
}

/// Computes `job.panels` of `matrix x input`.
#[inline(always)]
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

/// Copies row `row` of `matrix` (an embedding) to `out` as f32.
#[inline(always)]
pub(crate) fn row<S: Simd>(s: S, matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    let lane = row % PANEL;
    let data = matrix.panel(row / PANEL);
    let (header, blocks) = data.split_at(matrix.encoding.panel_header().min(data.len()));
    let scale = <[f32; PANEL]>::ref_from_bytes(header).map_or(1.0, |scales| scales[lane]);
    match matrix.encoding {
        Encoding::F32 | Encoding::Vector => float_row::<S, f32>(s, data, lane, out),
        Encoding::F16 => float_row::<S, f16>(s, data, lane, out),
        Encoding::BF16 => float_row::<S, bf16>(s, data, lane, out),
        Encoding::Q8 => block_row::<S, Q8Block>(s, blocks, lane, scale, out),
        Encoding::Q8Row => block_row::<S, Q8RowBlock>(s, blocks, lane, scale, out),
        Encoding::Q4 => block_row::<S, Q4Block>(s, blocks, lane, scale, out),
        Encoding::Q4Min => block_row::<S, Q4MinBlock>(s, blocks, lane, scale, out),
        Encoding::Q3Nl => block_row::<S, Q3NlBlock>(s, blocks, lane, scale, out),
        Encoding::Q4Nl => block_row::<S, Q4NlBlock>(s, blocks, lane, scale, out),
        Encoding::Q5Nl => block_row::<S, Q5NlBlock>(s, blocks, lane, scale, out),
        Encoding::Q6 => block_row::<S, Q6Block>(s, blocks, lane, scale, out),
    }
}

#[inline(always)]
fn float_row<S: Simd, T: Float>(s: S, data: &[u8], lane: usize, out: &mut [f32]) {
    let weights = <[[T; PANEL]]>::ref_from_bytes(data).unwrap_or(&[]);
    for (out, weights) in out.iter_mut().zip(weights) {
        *out = s.array(T::load(s, weights))[lane];
    }
}

#[inline(always)]
fn block_row<S: Simd, B: Block>(s: S, data: &[u8], lane: usize, scale: f32, out: &mut [f32]) {
    let blocks = <[B]>::ref_from_bytes(data).unwrap_or(&[]);
    let mut weights = [[0.0; PANEL]; GROUP];
    for (out, block) in out.chunks_mut(GROUP).zip(blocks) {
        dequantize(s, block, &mut weights);
        for (out, weights) in out.iter_mut().zip(&weights) {
            *out = weights[lane] * scale;
        }
    }
}

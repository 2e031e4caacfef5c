//! Products in f32, for float weights and for quantized weights in the exact mode, and decoding of matrix rows.

use super::block_product::dequantize;
use super::blocks::Matrix;
use super::matmul_job::{MatmulJob, put};
use super::quant_block::with_block;
use super::simd::{Block, Simd, Work};
use crate::format::{Encoding, GROUP, PANEL};
use half::{bf16, f16};
use zerocopy::FromBytes;

/// An element type of float panels.
pub(super) trait Float: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + Copy {
    fn load<S: Simd>(s: S, from: &[Self; PANEL]) -> S::F;
    fn to_f32(self) -> f32;
}

impl Float for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f32; PANEL]) -> S::F {
        s.load(from)
    }
    fn to_f32(self) -> f32 {
        self
    }
}

impl Float for f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f16; PANEL]) -> S::F {
        s.load_f16(from)
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Float for bf16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[bf16; PANEL]) -> S::F {
        s.load_bf16(from)
    }
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

/// Tokens in a tile of the f32 loops.
const FLOAT_TILE: usize = 4;

/// Products of float weights, `[columns, 16 rows]`, with a tile of tokens.
struct FloatTile<'j, T> {
    weights: &'j [[T; PANEL]],
    rows: &'j [&'j [f32]; FLOAT_TILE],
    sums: &'j mut [[f32; PANEL]; FLOAT_TILE],
}

impl<T: Float> Work for FloatTile<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut sums = [s.zero(); FLOAT_TILE];
        for (k, weights) in self.weights.iter().enumerate() {
            float_step(s, self.rows, k, T::load(s, weights), &mut sums);
        }
        for t in 0..FLOAT_TILE {
            s.store(sums[t], &mut self.sums[t]);
        }
    }
}

/// Products of a quantized panel with a tile of tokens.
struct ExactTile<'j, B> {
    header: Option<&'j [f32; PANEL]>,
    blocks: &'j [B],
    rows: &'j [&'j [f32]; FLOAT_TILE],
    sums: &'j mut [[f32; PANEL]; FLOAT_TILE],
}

impl<B: Block> Work for ExactTile<'_, B> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut sums = [s.zero(); FLOAT_TILE];
        let mut weights = [[0.0; PANEL]; GROUP];
        for (g, block) in self.blocks.iter().enumerate() {
            dequantize(s, block, self.header, &mut weights);
            for (k, weights) in weights.iter().enumerate() {
                float_step(s, self.rows, g * GROUP + k, s.load(weights), &mut sums);
            }
        }
        for t in 0..FLOAT_TILE {
            s.store(sums[t], &mut self.sums[t]);
        }
    }
}

/// Adds `weights`, column `k` of 16 rows, times that column of a tile of tokens to `sums`.
#[inline(always)]
fn float_step<S: Simd>(
    s: S,
    rows: &[&[f32]; FLOAT_TILE],
    k: usize,
    weights: S::F,
    sums: &mut [S::F; FLOAT_TILE],
) {
    for t in 0..FLOAT_TILE {
        let x = rows[t].get(k).copied().unwrap_or(0.0);
        sums[t] = s.mul_add(weights, s.splat(x), sums[t]);
    }
}

/// Writes the sums of a tile.
struct PutFloats<'j, 'a> {
    job: &'j MatmulJob<'a>,
    panel: usize,
    first: usize,
    sums: &'j [[f32; PANEL]; FLOAT_TILE],
}

impl Work for PutFloats<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PutFloats { job, panel, first, sums } = self;
        for (t, sum) in sums.iter().enumerate().take(job.input.tokens - first) {
            put(s, job, panel, first + t, s.load(sum));
        }
    }
}

/// The input rows of a tile; empty after the last token.
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

/// A quantized panel times all tokens, in f32.
pub(super) fn exact_panel<S: Simd, B: Block>(s: S, job: &MatmulJob<'_>, panel: usize) {
    let (header, blocks) = job.matrix.header_and_blocks::<B>(panel);
    for first in (0..job.input.tokens).step_by(FLOAT_TILE) {
        let mut sums = [[0.0; PANEL]; FLOAT_TILE];
        s.run(ExactTile { header, blocks, rows: &float_rows(job, first), sums: &mut sums });
        s.run(PutFloats { job, panel, first, sums: &sums });
    }
}

/// Float panels times all tokens.
pub(super) fn float_panels<S: Simd, T: Float>(s: S, job: &MatmulJob<'_>) {
    for panel in job.panels.clone() {
        let weights = <[[T; PANEL]]>::ref_from_bytes(job.matrix.panel(panel)).unwrap_or(&[]);
        for first in (0..job.input.tokens).step_by(FLOAT_TILE) {
            let mut sums = [[0.0; PANEL]; FLOAT_TILE];
            s.run(FloatTile { weights, rows: &float_rows(job, first), sums: &mut sums });
            s.run(PutFloats { job, panel, first, sums: &sums });
        }
    }
}

/// Decodes row `row` of `matrix` to `out`.
pub(crate) fn row<S: Simd>(s: S, matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    let (panel, lane) = (row / PANEL, row % PANEL);
    with_block!(matrix.encoding, B => block_row::<S, B>(s, matrix, panel, lane, out), T => float_row::<T>(matrix.panel(panel), lane, out))
}

fn float_row<T: Float>(data: &[u8], lane: usize, out: &mut [f32]) {
    let weights = <[[T; PANEL]]>::ref_from_bytes(data).unwrap_or(&[]);
    for (out, weights) in out.iter_mut().zip(weights) {
        *out = weights[lane].to_f32();
    }
}

/// Blocks that are decoded at a time.
const BATCH: usize = 4;

/// Decodes blocks, each to `[columns, 16 rows]`.
struct Dequantize<'b, B> {
    header: Option<&'b [f32; PANEL]>,
    blocks: &'b [B],
    out: &'b mut [[[f32; PANEL]; GROUP]; BATCH],
}

impl<B: Block> Work for Dequantize<'_, B> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (block, out) in self.blocks.iter().zip(self.out) {
            dequantize(s, block, self.header, out);
        }
    }
}

fn block_row<S: Simd, B: Block>(s: S, matrix: &Matrix<'_>, panel: usize, lane: usize, out: &mut [f32]) {
    let (header, blocks) = matrix.header_and_blocks::<B>(panel);
    let mut weights = [[[0.0; PANEL]; GROUP]; BATCH];
    for (out, blocks) in out.chunks_mut(BATCH * GROUP).zip(blocks.chunks(BATCH)) {
        s.run(Dequantize { header, blocks, out: &mut weights });
        for (out, weights) in out.iter_mut().zip(weights.as_flattened()) {
            *out = weights[lane];
        }
    }
}

//! Matrix products: weight panels times tiles of tokens, the hot loop of inference.

use super::block_product::{add_integer, scaled};
use super::blocks::QuantGroup;
use super::float_matmul::{exact_panel, float_panels};
use super::matmul_job::{MatmulJob, put, tile_width};
use super::quant_block::with_block;
use super::simd::{Block, Simd, Work};
use crate::format::{Encoding, GROUP};
use core::marker::PhantomData;
use core::ops::Range;

/// Prefetch distance of a single token's product, bytes. The product is memory-bound, and hardware prefetching stops at page
/// boundaries (4 KB). See [`Kernels::without_prefetch`](super::Kernels::without_prefetch).
const PREFETCH_DISTANCE: usize = 4096;

/// Panels times one tile of `W` tokens, with integer arithmetic.
struct IntegerTile<'j, 'a, B, const W: usize> {
    job: &'j MatmulJob<'a>,
    panels: Range<usize>,
    /// The tile's first token.
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
            let (header, blocks) = job.matrix.header_and_blocks::<B>(panel);
            let mut sums = [s.zero(); W];
            for (block, x) in blocks.iter().zip(tile) {
                if W == 1 && job.prefetch {
                    s.prefetch(block, PREFETCH_DISTANCE, size_of::<B>());
                }
                add_integer(s, block, x, &mut sums);
            }
            for (t, sum) in sums.into_iter().enumerate().take(job.input.tokens - first) {
                put(s, job, panel, first + t, scaled(s, sum, header));
            }
        }
    }
}

/// Panels times all tokens, with integer arithmetic.
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
        Some(groups) if tile_width(job.input.tokens, S::TILE) >= job.input.tokens => {
            integer_panels::<S, B>(s, job, panels, groups)
        }
        // A panel stays in the nearest cache for all tiles.
        Some(groups) => {
            panels.for_each(|panel| integer_panels::<S, B>(s, job, panel..panel + 1, groups));
        }
        None => panels.for_each(|panel| exact_panel::<S, B>(s, job, panel)),
    }
}

/// Computes `job.panels` of `matrix x input`.
pub(crate) fn matmul<S: Simd>(s: S, job: &MatmulJob<'_>) {
    with_block!(job.matrix.encoding, B => quantized_panels::<S, B>(s, job), T => float_panels::<S, T>(s, job))
}

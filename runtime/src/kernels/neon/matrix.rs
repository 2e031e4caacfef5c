//! Products of a block with pairs of tokens by the 8-bit matrix extension (`smmla`).

use super::Neon;
use crate::format::GROUP;
use crate::kernels::blocks::QuantGroup;
use crate::kernels::simd::{Block, Compile, Plane};
use core::arch::aarch64::*;

/// Signed codes of two steps as pairs of rows with 8 columns each.
#[inline(always)]
fn row_pairs<const MATRIX: bool, C: Block>(s: Neon<MATRIX>, block: &C, step: usize) -> [int8x16_t; 8]
where
    Neon<MATRIX>: Compile,
{
    let flip = with!(vdupq_n_u8(if C::SMALL { 0 } else { 128 }));
    let (first, second) = (block.codes(s, step), block.codes(s, step + 1));
    let mut pairs = [with!(vdupq_n_s8(0)); 8];
    for quarter in 0..4 {
        let first = with!(veorq_u8(first[quarter], flip));
        let second = with!(veorq_u8(second[quarter], flip));
        let (first, second) = (with!(vreinterpretq_u32_u8(first)), with!(vreinterpretq_u32_u8(second)));
        let (low, high) = (with!(vzip1q_u32(first, second)), with!(vzip2q_u32(first, second)));
        pairs[2 * quarter] = with!(vreinterpretq_s8_u32(low));
        pairs[2 * quarter + 1] = with!(vreinterpretq_s8_u32(high));
    }
    pairs
}

/// [`Simd::dots`] of the tokens `2 * pair` and `2 * pair + 1` for all pairs below `PAIRS`.
#[inline(always)]
pub(super) fn dots<const MATRIX: bool, C: Block, P: Plane, const PAIRS: usize>(
    s: Neon<MATRIX>,
    block: &C,
    x: &[QuantGroup],
    dots: &mut [[int32x4_t; 4]],
) where
    Neon<MATRIX>: Compile,
{
    let mut sums = [[with!(vdupq_n_s32(0)); 8]; PAIRS];
    for step in (0..GROUP / 4).step_by(2) {
        let rows = row_pairs(s, block, step);
        for (sums, x) in sums.iter_mut().zip(x.as_chunks::<2>().0) {
            let [a, b] = [P::words(&x[0]), P::words(&x[1])];
            let words = [a[step], a[step + 1], b[step], b[step + 1]];
            let words = with!(vld1q_s32(words.as_ptr()));
            let words = with!(vreinterpretq_s8_s32(words));
            for (sum, rows) in sums.iter_mut().zip(rows) {
                *sum = s.smmla(*sum, rows, words);
            }
        }
    }
    for (sums, dots) in sums.iter().zip(dots.as_chunks_mut::<2>().0) {
        for quarter in 0..4 {
            let (low, high) = (sums[2 * quarter], sums[2 * quarter + 1]);
            let (first, second) = (with!(vuzp1q_s32(low, high)), with!(vuzp2q_s32(low, high)));
            dots[0][quarter] = with!(vaddq_s32(dots[0][quarter], first));
            dots[1][quarter] = with!(vaddq_s32(dots[1][quarter], second));
        }
    }
}

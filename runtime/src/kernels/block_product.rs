//! Products of a quantized block with the groups of a few tokens.

use super::blocks::QuantGroup;
use super::simd::{Block, Plane, Simd, dot};
use crate::format::{GROUP, PANEL};

struct Coarse;
struct Fine;

impl Plane for Coarse {
    #[inline(always)]
    fn words(x: &QuantGroup) -> &[i32; GROUP / 4] {
        &x.codes
    }
}

impl Plane for Fine {
    #[inline(always)]
    fn words(x: &QuantGroup) -> &[i32; GROUP / 4] {
        &x.fine
    }
}

/// Adds the block's products with the groups of `W` tokens, without the scales in the panel's header.
///
/// An integer product is at most 32 x 255 x 127 for the first plane, 2^28 once that is times 256: exact in 32 bits.
#[inline(always)]
pub(super) fn add_integer<S: Simd, C: Block, const W: usize>(
    s: S,
    block: &C,
    x: &[QuantGroup; W],
    sums: &mut [S::F; W],
) {
    let zero = if C::SMALL { i32::from(C::ZERO) } else { S::BYTE_ZERO };
    let mut dots = [s.splat_i32(0); W];
    if let Some(joined) = s.joined_dots(block, x) {
        dots = joined;
    } else if W == 1 {
        dots[0] = dots_single(s, block, &x[0]);
        if zero != 0 {
            dots[0] = s.add_i32(dots[0], s.splat_i32(-zero * x[0].steps));
        }
    } else if S::TILE >= 12 {
        // Subtract the contribution of the zero point in advance.
        for t in 0..W {
            if zero != 0 {
                dots[t] = s.splat_i32(-zero * x[t].steps);
            }
        }
        both_planes(s, block, x, &mut dots);
    } else {
        s.dots::<C, Coarse, W>(block, x, &mut dots);
        for t in 0..W {
            // The second plane continues in the accumulators of the first.
            dots[t] = s.times_256(dots[t]);
            if zero != 0 {
                dots[t] = s.add_i32(dots[t], s.splat_i32(-zero * x[t].steps));
            }
        }
        s.dots::<C, Fine, W>(block, x, &mut dots);
    }
    let (scale, minimum) = (block.scales(s), block.minimums(s));
    for t in 0..W {
        sums[t] = add_dots(s, dots[t], (scale, minimum), &x[t], sums[t]);
    }
}

/// Both planes of `W` tokens, for sets with many registers: unpacks codes once and has twice as many independent sums.
#[inline(always)]
fn both_planes<S: Simd, C: Block, const W: usize>(
    s: S,
    block: &C,
    x: &[QuantGroup; W],
    dots: &mut [S::I; W],
) {
    let mut coarse = [s.splat_i32(0); W];
    // Unrolled by hand: the compiler unrolls only some such loops, and the others shift by variable counts.
    macro_rules! steps {
        ($($step:literal),*) => {$(
            let codes = block.codes(s, $step);
            for t in 0..W {
                coarse[t] = dot::<S, C>(s, coarse[t], codes, x[t].codes[$step]);
            }
            for t in 0..W {
                dots[t] = dot::<S, C>(s, dots[t], codes, x[t].fine[$step]);
            }
        )*};
    }
    steps!(0, 1, 2, 3, 4, 5, 6, 7);
    for t in 0..W {
        dots[t] = s.add_i32(s.times_256(coarse[t]), dots[t]);
    }
}

/// Both planes of a single token. One accumulator would be a dependency chain of sixteen instructions, longer than the
/// out-of-order window covers; this has four chains of four.
#[inline(always)]
fn dots_single<S: Simd, C: Block>(s: S, block: &C, x: &QuantGroup) -> S::I {
    let mut coarse = [s.splat_i32(0); 2];
    let mut fine = [s.splat_i32(0); 2];
    for step in 0..GROUP / 4 {
        let codes = block.codes(s, step);
        coarse[step % 2] = dot::<S, C>(s, coarse[step % 2], codes, x.codes[step]);
        fine[step % 2] = dot::<S, C>(s, fine[step % 2], codes, x.fine[step]);
    }
    let coarse = s.add_i32(coarse[0], coarse[1]);
    s.add_i32(s.times_256(coarse), s.add_i32(fine[0], fine[1]))
}

/// Adds a group's integer products, scaled by the steps of rows and token, and the rows' minimums to `sum`.
#[inline(always)]
pub(super) fn add_dots<S: Simd>(
    s: S,
    dots: S::I,
    (scale, minimum): (S::F, Option<S::F>),
    x: &QuantGroup,
    sum: S::F,
) -> S::F {
    let sum = s.mul_add(s.to_f32(dots), s.mul(scale, s.splat(x.step)), sum);
    match minimum {
        Some(minimum) => s.mul_add(minimum, s.splat(x.sum), sum),
        None => sum,
    }
}

/// `sum` times the scales in the panel's header, if there is one.
#[inline(always)]
pub(super) fn scaled<S: Simd>(s: S, sum: S::F, header: Option<&[f32; PANEL]>) -> S::F {
    match header {
        Some(scales) => s.mul(sum, s.load(scales)),
        None => sum,
    }
}

/// Decodes a block, `[columns, 16 rows]`; `header` is the panel's header of row scales, if it has one.
#[inline(always)]
pub(super) fn dequantize<S: Simd, C: Block>(
    s: S,
    block: &C,
    header: Option<&[f32; PANEL]>,
    out: &mut [[f32; PANEL]; GROUP],
) {
    let (scale, zero) = (block.scales(s), s.splat(f32::from(C::ZERO)));
    let minimum = match block.minimums(s) {
        Some(minimum) => minimum,
        None => s.zero(),
    };
    for (step, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let codes = block.codes(s, step);
        let columns =
            [s.column::<0>(codes), s.column::<1>(codes), s.column::<2>(codes), s.column::<3>(codes)];
        for (column, out) in columns.into_iter().zip(out) {
            let weights = s.add(s.mul(s.sub(column, zero), scale), minimum);
            s.store(scaled(s, weights, header), out);
        }
    }
}

//! One quantized block times the groups of a few tokens, for each encoding.

use super::blocks::{
    Q3NlBlock, Q4Block, Q4MinBlock, Q4NlBlock, Q5NlBlock, Q6Block, Q8Block, Q8RowBlock, QuantGroup,
};
use super::simd::Simd;
use crate::format::{GROUP, LEVEL_ZERO, LEVELS_3, LEVELS_4, LEVELS_5, PANEL};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A quantized block that can be multiplied with integer and with f32 activations.
pub(super) trait Block: FromBytes + Immutable + KnownLayout {
    /// Adds the block's product with `W` tokens' groups, without the scales of the rows.
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]);
    /// The 16 rows' f32 weights of column after column, without the scales of the rows.
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]);
}

/// One of the two planes of quantized activations.
pub(super) trait Plane {
    fn words(x: &QuantGroup) -> &[i32; GROUP / 4];
}

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

/// A block's unsigned codes.
pub(super) trait Codes {
    /// Whether no code is above 127.
    const SMALL: bool;
    /// What stands for zero in the products of [`Simd::dots`].
    fn zero<S: Simd>() -> i32;
    /// The codes of columns `4 * step ..` of 16 rows; `step` is below 8.
    fn step<S: Simd>(&self, s: S, step: usize) -> S::B;
}

/// Adds `scale * (codes - zero) x activations`.
#[inline(always)]
fn add_dots<S: Simd, C: Codes, const W: usize>(
    s: S,
    codes: &C,
    scale: S::F,
    x: &[QuantGroup; W],
    sums: &mut [S::F; W],
) {
    let mut dots = [s.splat_i32(0); W];
    s.dots::<C, Coarse, W>(codes, x, &mut dots);
    for t in 0..W {
        // The second plane goes on where the first ended, so that one set of accumulators holds both. At most
        // 32 x 255 x 127 before, 2^28 after: exact in 32 bits.
        dots[t] = s.times_256(dots[t]);
        if C::zero::<S>() != 0 {
            dots[t] = s.add_i32(dots[t], s.splat_i32(-C::zero::<S>() * x[t].steps));
        }
    }
    s.dots::<C, Fine, W>(codes, x, &mut dots);
    for t in 0..W {
        sums[t] = s.mul_add(s.to_f32(dots[t]), s.mul(scale, s.splat(x[t].step)), sums[t]);
    }
}

/// Nibbles with zero point `ZERO`.
struct Nibbles<'b, const ZERO: i32>(&'b [[u8; 64]; 4]);
/// Bytes with zero point 128.
struct Bytes<'b>(&'b [[u8; 64]; 8]);

impl<const ZERO: i32> Codes for Nibbles<'_, ZERO> {
    const SMALL: bool = true;
    #[inline(always)]
    fn zero<S: Simd>() -> i32 {
        ZERO
    }
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, step: usize) -> S::B {
        nibbles(s, self.0, step)
    }
}

impl Codes for Bytes<'_> {
    const SMALL: bool = false;
    #[inline(always)]
    fn zero<S: Simd>() -> i32 {
        S::BYTE_ZERO
    }
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, step: usize) -> S::B {
        s.load_bytes(&self.0[step])
    }
}

/// `scale * (code - zero) + minimum` for the four columns of one step.
#[inline(always)]
fn dequantize_step<S: Simd>(s: S, codes: S::B, zero: f32, scale: S::F, min: S::F, out: &mut [[f32; PANEL]]) {
    let zero = s.splat(zero);
    let columns = [s.column::<0>(codes), s.column::<1>(codes), s.column::<2>(codes), s.column::<3>(codes)];
    for (column, out) in columns.into_iter().zip(out) {
        s.store(s.add(s.mul(s.sub(column, zero), scale), min), out);
    }
}

#[inline(always)]
fn dequantize_nibbles<S: Simd>(
    s: S,
    codes: &[[u8; 64]; 4],
    zero: f32,
    scale: S::F,
    min: S::F,
    out: &mut [[f32; PANEL]; GROUP],
) {
    for (codes, out) in codes.iter().zip(out.as_chunks_mut::<8>().0) {
        let codes = s.load_bytes(codes);
        let (low, high) = out.split_at_mut(4);
        dequantize_step(s, s.low_nibbles(codes), zero, scale, min, low);
        dequantize_step(s, s.high_nibbles(codes), zero, scale, min, high);
    }
}

#[inline(always)]
fn dequantize_bytes<S: Simd>(s: S, codes: &[[u8; 64]; 8], scale: S::F, out: &mut [[f32; PANEL]; GROUP]) {
    for (codes, out) in codes.iter().zip(out.as_chunks_mut::<4>().0) {
        dequantize_step(s, s.load_bytes(codes), 128.0, scale, s.zero(), out);
    }
}

impl Block for Q4Block {
    #[inline(always)]
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]) {
        add_dots(s, &Nibbles::<8>(&self.codes), s.load_f16(&self.scales), x, sums);
    }
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]) {
        dequantize_nibbles(s, &self.codes, 8.0, s.load_f16(&self.scales), s.zero(), out);
    }
}

impl Block for Q4MinBlock {
    #[inline(always)]
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]) {
        add_dots(s, &Nibbles::<0>(&self.codes), s.load_f16(&self.scales), x, sums);
        let minimum = s.load_f16(&self.minimums);
        for t in 0..W {
            sums[t] = s.mul_add(minimum, s.splat(x[t].sum), sums[t]);
        }
    }
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]) {
        let (scale, min) = (s.load_f16(&self.scales), s.load_f16(&self.minimums));
        dequantize_nibbles(s, &self.codes, 0.0, scale, min, out);
    }
}

impl Block for Q8Block {
    #[inline(always)]
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]) {
        add_dots(s, &Bytes(&self.codes), s.load_f16(&self.scales), x, sums);
    }
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]) {
        dequantize_bytes(s, &self.codes, s.load_f16(&self.scales), out);
    }
}

impl Block for Q8RowBlock {
    #[inline(always)]
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]) {
        add_dots(s, &Bytes(&self.codes), s.splat(1.0), x, sums);
    }
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]) {
        dequantize_bytes(s, &self.codes, s.splat(1.0), out);
    }
}

/// A block of 3 to 6 bits: levels of at most 7 bits, and a signed byte as each row's scale.
trait Narrow: FromBytes + Immutable + KnownLayout {
    /// The level that stands for zero.
    const ZERO: u8;
    fn scales(&self) -> &[i8; PANEL];
    /// The levels of columns `4 * step ..` of 16 rows, 0 to 127; `step` is below 8.
    fn levels<S: Simd>(&self, s: S, step: usize) -> S::B;
}

/// The low four bits of the codes of one step.
#[inline(always)]
fn nibbles<S: Simd>(s: S, low: &[[u8; 64]; 4], step: usize) -> S::B {
    let codes = s.load_bytes(&low[step / 2]);
    if step.is_multiple_of(2) { s.low_nibbles(codes) } else { s.high_nibbles(codes) }
}

impl Narrow for Q3NlBlock {
    const ZERO: u8 = LEVEL_ZERO;
    #[inline(always)]
    fn scales(&self) -> &[i8; PANEL] {
        &self.scales
    }
    #[inline(always)]
    fn levels<S: Simd>(&self, s: S, step: usize) -> S::B {
        let low = s.bits(s.load_bytes(&self.low[step / 4]), 2 * (step % 4) as i32, 3);
        let high = s.bits(s.load_bytes(&self.high), step as i32 - 2, 4);
        const TABLE: [u8; 16] = {
            let mut table = [0; 16];
            let mut code = 0;
            while code < LEVELS_3.len() {
                table[code] = LEVELS_3[code];
                code += 1;
            }
            table
        };
        s.lookup(s.or(low, high), &TABLE)
    }
}

impl Narrow for Q4NlBlock {
    const ZERO: u8 = LEVEL_ZERO;
    #[inline(always)]
    fn scales(&self) -> &[i8; PANEL] {
        &self.scales
    }
    #[inline(always)]
    fn levels<S: Simd>(&self, s: S, step: usize) -> S::B {
        s.lookup(nibbles(s, &self.low, step), &LEVELS_4)
    }
}

impl Narrow for Q5NlBlock {
    const ZERO: u8 = LEVEL_ZERO;
    #[inline(always)]
    fn scales(&self) -> &[i8; PANEL] {
        &self.scales
    }
    #[inline(always)]
    fn levels<S: Simd>(&self, s: S, step: usize) -> S::B {
        let high = s.bits(s.load_bytes(&self.high), step as i32 - 4, 16);
        s.lookup_32(s.or(nibbles(s, &self.low, step), high), &LEVELS_5)
    }
}

impl Narrow for Q6Block {
    const ZERO: u8 = 32;
    #[inline(always)]
    fn scales(&self) -> &[i8; PANEL] {
        &self.scales
    }
    #[inline(always)]
    fn levels<S: Simd>(&self, s: S, step: usize) -> S::B {
        let high = s.bits(s.load_bytes(&self.high[step / 4]), 2 * (step % 4) as i32 - 4, 48);
        s.or(nibbles(s, &self.low, step), high)
    }
}

impl<N: Narrow> Codes for &N {
    const SMALL: bool = true;
    #[inline(always)]
    fn zero<S: Simd>() -> i32 {
        i32::from(N::ZERO)
    }
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, step: usize) -> S::B {
        self.levels(s, step)
    }
}

impl<N: Narrow> Block for N {
    #[inline(always)]
    fn integer<S: Simd, const W: usize>(&self, s: S, x: &[QuantGroup; W], sums: &mut [S::F; W]) {
        add_dots(s, &self, s.load_i8(self.scales()), x, sums);
    }
    #[inline(always)]
    fn columns<S: Simd>(&self, s: S, out: &mut [[f32; PANEL]; GROUP]) {
        let scale = s.load_i8(self.scales());
        for (step, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            dequantize_step(s, self.levels(s, step), f32::from(N::ZERO), scale, s.zero(), out);
        }
    }
}

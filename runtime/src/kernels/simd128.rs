//! WebAssembly's 128-bit vectors: four for the sixteen lanes.
//!
//! Whether a module uses them is fixed when it is compiled, so there is nothing to prove about the CPU: the kernels exist in
//! modules that were compiled with `-C target-feature=+simd128`. Every operation rounds as `scalar.rs` does: results are
//! the same to the last bit.

use super::blocks::QuantGroup;
use super::simd::{Block, Compile, Simd, Work, half_tables};
use crate::format::GROUP;
use core::arch::wasm32::*;
use half::f16;

/// A module with 128-bit vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simd128;

/// The sixteen lanes.
type Lanes = [v128; 4];

/// Adding and subtracting this rounds |x| < 2^22 to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// One operation on all four quarters.
macro_rules! each {
    ($f:expr, $a:expr) => {
        [$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])]
    };
    ($f:expr, $a:expr, $b:expr) => {
        [$f($a[0], $b[0]), $f($a[1], $b[1]), $f($a[2], $b[2]), $f($a[3], $b[3])]
    };
}

/// 16 bytes of an array, from byte `16 * part` on.
#[inline(always)]
fn load<T, const N: usize>(from: &[T; N], part: usize) -> v128 {
    assert!(16 * (part + 1) <= size_of_val(from), "a vector lies inside its array");
    let from = from.as_ptr().cast::<v128>().wrapping_add(part);
    // SAFETY: the assertion keeps these 16 bytes inside the borrowed array of plain numbers; no alignment is needed.
    unsafe { v128_load(from) }
}

/// Writes 16 bytes of an array, from byte `16 * part` on.
#[inline(always)]
fn store<T, const N: usize>(to: &mut [T; N], part: usize, x: v128) {
    assert!(16 * (part + 1) <= size_of_val(to), "a vector lies inside its array");
    let to = to.as_mut_ptr().cast::<v128>().wrapping_add(part);
    // SAFETY: as in `load`, and the array is borrowed mutably; any bytes are valid numbers.
    unsafe { v128_store(to, x) }
}

/// 16 signed bytes as the sixteen lanes.
#[inline(always)]
fn widen(bytes: v128) -> Lanes {
    let (low, high) = (i16x8_extend_low_i8x16(bytes), i16x8_extend_high_i8x16(bytes));
    [
        i32x4_extend_low_i16x8(low),
        i32x4_extend_high_i16x8(low),
        i32x4_extend_low_i16x8(high),
        i32x4_extend_high_i16x8(high),
    ]
}

/// Four f16, in the low halves of 32-bit lanes, as f32.
#[inline(always)]
fn half_to_f32(half: v128) -> v128 {
    const INFINITY: i32 = 0x7c00 << 13;
    let magnitude = i32x4_shl(v128_and(half, i32x4_splat(0x7fff)), 13);
    // Moves the exponent from a bias of 15 to one of 127, and normalizes subnormal numbers.
    let scaled = f32x4_mul(magnitude, f32x4_splat(f32::from_bits((127 + 112) << 23)));
    let special = v128_and(i32x4_ge(magnitude, i32x4_splat(INFINITY)), i32x4_splat(0x7f80_0000));
    v128_or(v128_or(scaled, special), i32x4_shl(v128_and(half, i32x4_splat(0x8000)), 16))
}

/// To each 32-bit lane the sum of its neighbour: lanes of `low`, then of `high`, in pairs.
#[inline(always)]
fn pair_sums(low: v128, high: v128) -> v128 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high))
}

/// Both planes of four columns as 16-bit integers, twice: 256 times the first plane and the second.
#[inline(always)]
fn joined_planes(x: &QuantGroup, step: usize) -> v128 {
    let codes = i16x8_extend_low_i8x16(i32x4_splat(x.codes[step]));
    let fine = i16x8_extend_low_i8x16(i32x4_splat(x.fine[step]));
    i16x8_add(i16x8_shl(codes, 8), fine)
}

impl Compile for Simd128 {
    #[inline(never)]
    fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    unsafe fn assume() -> Self {
        Simd128
    }
}

impl Simd for Simd128 {
    type F = Lanes;
    type I = Lanes;
    type B = Lanes;
    const TILE: usize = 4;
    const BYTE_ZERO: i32 = 128;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        [f32x4_splat(x); 4]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Lanes {
        [load(from, 0), load(from, 1), load(from, 2), load(from, 3)]
    }
    #[inline(always)]
    fn store(self, x: Lanes, to: &mut [f32; 16]) {
        for part in 0..4 {
            store(to, part, x[part]);
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> Lanes {
        let (low, high) = (load(from, 0), load(from, 1));
        let halves = [
            u32x4_extend_low_u16x8(low),
            u32x4_extend_high_u16x8(low),
            u32x4_extend_low_u16x8(high),
            u32x4_extend_high_u16x8(high),
        ];
        each!(half_to_f32, halves)
    }
    #[inline(always)]
    fn store_f16(self, x: Lanes, to: &mut [f16; 16]) {
        for (to, x) in to.iter_mut().zip(self.array(x)) {
            *to = f16::from_f32(x);
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 16]) -> Lanes {
        self.to_f32(widen(load(from, 0)))
    }
    #[inline(always)]
    fn store_i8(self, x: Lanes, to: &mut [i8; 16]) {
        let words = each!(i32x4_trunc_sat_f32x4, self.round(x));
        let low = i16x8_narrow_i32x4(words[0], words[1]);
        store(to, 0, i8x16_narrow_i16x8(low, i16x8_narrow_i32x4(words[2], words[3])));
    }
    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_add, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_sub, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_mul, a, b)
    }
    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_div, a, b)
    }
    /// `b < a ? a : b`, the pseudo-maximum with its operands in this order.
    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_pmax, b, a)
    }
    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        each!(f32x4_pmin, b, a)
    }
    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        each!(f32x4_abs, a)
    }
    /// Not the fused one of relaxed SIMD: its rounding depends on the machine.
    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn round(self, a: Lanes) -> Lanes {
        self.sub(self.add(a, self.splat(ROUND)), self.splat(ROUND))
    }
    #[inline(always)]
    fn exp2_integral(self, n: Lanes) -> Lanes {
        let biased = self.add_i32(each!(i32x4_trunc_sat_f32x4, n), self.splat_i32(127));
        each!(|x| i32x4_shl(x, 23), biased)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Lanes {
        [i32x4_splat(x); 4]
    }
    #[inline(always)]
    fn add_i32(self, a: Lanes, b: Lanes) -> Lanes {
        each!(i32x4_add, a, b)
    }
    #[inline(always)]
    fn times_256(self, a: Lanes) -> Lanes {
        each!(|x| i32x4_shl(x, 8), a)
    }
    #[inline(always)]
    fn to_f32(self, x: Lanes) -> Lanes {
        each!(f32x4_convert_i32x4, x)
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Lanes {
        [load(from, 0), load(from, 1), load(from, 2), load(from, 3)]
    }
    #[inline(always)]
    fn low_nibbles(self, codes: Lanes) -> Lanes {
        each!(|x| v128_and(x, u8x16_splat(15)), codes)
    }
    #[inline(always)]
    fn high_nibbles(self, codes: Lanes) -> Lanes {
        each!(|x| u8x16_shr(x, 4), codes)
    }
    #[inline(always)]
    fn bits(self, bytes: Lanes, right: i32, mask: u8) -> Lanes {
        let moved = match right < 0 {
            true => each!(|x| u8x16_shl(x, right.unsigned_abs()), bytes),
            false => each!(|x| u8x16_shr(x, right.unsigned_abs()), bytes),
        };
        each!(|x| v128_and(x, u8x16_splat(mask)), moved)
    }
    #[inline(always)]
    fn or(self, a: Lanes, b: Lanes) -> Lanes {
        each!(v128_or, a, b)
    }
    #[inline(always)]
    fn lookup(self, codes: Lanes, table: &[u8; 16]) -> Lanes {
        let table = load(table, 0);
        each!(|x| u8x16_swizzle(table, x), codes)
    }
    /// A swizzle gives 0 for indices above 15.
    #[inline(always)]
    fn lookup_32(self, codes: Lanes, table: &[u8; 32]) -> Lanes {
        let [low, high] = half_tables(table);
        let (low, high) = (load(low, 0), load(high, 0));
        let sixteen = u8x16_splat(16);
        each!(|x| v128_or(u8x16_swizzle(low, x), u8x16_swizzle(high, u8x16_sub(x, sixteen))), codes)
    }
    #[inline(always)]
    fn dot_small(self, sum: Lanes, codes: Lanes, x: i32) -> Lanes {
        self.dot_bytes(sum, codes, x)
    }
    #[inline(always)]
    fn dot_bytes(self, sum: Lanes, codes: Lanes, x: i32) -> Lanes {
        let x = i16x8_extend_low_i8x16(i32x4_splat(x));
        let dot = |codes: v128| {
            let low = i32x4_dot_i16x8(i16x8_extend_low_u8x16(codes), x);
            pair_sums(low, i32x4_dot_i16x8(i16x8_extend_high_u8x16(codes), x))
        };
        self.add_i32(sum, each!(dot, codes))
    }
    /// One multiplication of 16-bit integers does both planes. Exact: 32 x 255 x (127 x 256 + 127) is below 2^28.
    #[inline(always)]
    fn joined_dots<C: Block, const W: usize>(self, block: &C, x: &[QuantGroup; W]) -> Option<[Lanes; W]> {
        let zero = if C::SMALL { i32::from(C::ZERO) } else { Self::BYTE_ZERO };
        let mut out = [self.splat_i32(0); W];
        // A quarter at a time: the sums of all four would not fit the registers.
        for quarter in 0..4 {
            let mut sums = [[i32x4_splat(0); 2]; W];
            for step in 0..GROUP / 4 {
                let codes = block.codes(self, step)[quarter];
                let (low, high) = (i16x8_extend_low_u8x16(codes), i16x8_extend_high_u8x16(codes));
                for t in 0..W {
                    let x = joined_planes(&x[t], step);
                    sums[t][0] = i32x4_add(sums[t][0], i32x4_dot_i16x8(low, x));
                    sums[t][1] = i32x4_add(sums[t][1], i32x4_dot_i16x8(high, x));
                }
            }
            for t in 0..W {
                let [low, high] = sums[t];
                out[t][quarter] = i32x4_sub(pair_sums(low, high), i32x4_splat(zero * x[t].steps));
            }
        }
        Some(out)
    }
    #[inline(always)]
    fn column<const J: u32>(self, codes: Lanes) -> Lanes {
        each!(|x| f32x4_convert_u32x4(v128_and(u32x4_shr(x, 8 * J), i32x4_splat(255))), codes)
    }
}

//! NEON with the dot-product extension, optionally with the 8-bit matrix extension: four registers for the sixteen lanes.

use super::blocks::QuantGroup;
use super::simd::{Block, Compile, Plane, Simd, compile, half_tables};
use core::arch::aarch64::*;
use core::arch::asm;
use half::f16;

/// Proof that the CPU supports NEON and the dot-product extension (`sdot`), and, where `MATRIX`, the 8-bit matrix
/// extension (`smmla`).
#[derive(Clone, Copy, Debug)]
pub struct Neon<const MATRIX: bool>(());

/// NEON with `sdot`.
pub type DotProd = Neon<false>;
/// NEON with `sdot` and `smmla`.
pub type I8mm = Neon<true>;

impl<const MATRIX: bool> Neon<MATRIX> {
    /// A proof, without a check.
    ///
    /// # Safety
    /// The CPU supports neon and dotprod, and i8mm where `MATRIX`.
    pub unsafe fn assume() -> Self {
        Neon(())
    }
}

compile!(DotProd, "neon,dotprod");
compile!(I8mm, "neon,dotprod,i8mm");

/// Evaluates a register-only intrinsic.
macro_rules! with {
    ($call:expr) => {
        // SAFETY: the receiver, or the argument `s`, a `Neon`, exists only where the CPU has these instructions, and the
        // intrinsic touches no memory but through the reference to an array of at least its size.
        unsafe { $call }
    };
}

mod matrix;

/// One operation on all four quarters.
macro_rules! each {
    ($f:ident, $a:expr) => {
        [with!($f($a[0])), with!($f($a[1])), with!($f($a[2])), with!($f($a[3]))]
    };
    ($f:ident, $a:expr, $b:expr) => {
        [with!($f($a[0], $b[0])), with!($f($a[1], $b[1])), with!($f($a[2], $b[2])), with!($f($a[3], $b[3]))]
    };
}

#[inline(always)]
fn quarters<T>(from: &[T; 16]) -> &[[T; 4]] {
    from.as_chunks::<4>().0
}

impl<const MATRIX: bool> Neon<MATRIX> {
    /// `sdot`: to each 32-bit lane the sum of 4 products of signed bytes.
    ///
    /// As assembly because the intrinsic is not stable.
    #[inline(always)]
    fn sdot(self, mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the dot-product extension; registers only.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) sum, in(vreg) a, in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    /// `smmla`: the 2 x 2 products of two rows of 8 signed bytes with two more, added to `sum`.
    ///
    /// As assembly because the intrinsic is not stable.
    #[inline(always)]
    fn smmla(self, mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        assert!(MATRIX, "only with the 8-bit matrix extension");
        // SAFETY: `self` proves the 8-bit matrix extension by the assertion; registers only.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
                inout(vreg) sum, in(vreg) a, in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    #[inline(always)]
    fn dot(self, sum: [int32x4_t; 4], codes: [int8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        let x = with!(vdupq_n_s32(x));
        let x = with!(vreinterpretq_s8_s32(x));
        [
            self.sdot(sum[0], codes[0], x),
            self.sdot(sum[1], codes[1], x),
            self.sdot(sum[2], codes[2], x),
            self.sdot(sum[3], codes[3], x),
        ]
    }
}

impl<const MATRIX: bool> Simd for Neon<MATRIX>
where
    Neon<MATRIX>: Compile,
{
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type B = [uint8x16_t; 4];
    const TILE: usize = 4;
    const BYTE_ZERO: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> [float32x4_t; 4] {
        [with!(vdupq_n_f32(x)); 4]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> [float32x4_t; 4] {
        let q = quarters(from);
        [
            with!(vld1q_f32(q[0].as_ptr())),
            with!(vld1q_f32(q[1].as_ptr())),
            with!(vld1q_f32(q[2].as_ptr())),
            with!(vld1q_f32(q[3].as_ptr())),
        ]
    }
    #[inline(always)]
    fn store(self, x: [float32x4_t; 4], to: &mut [f32; 16]) {
        for (x, to) in x.into_iter().zip(to.as_chunks_mut::<4>().0) {
            with!(vst1q_f32(to.as_mut_ptr(), x));
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> [float32x4_t; 4] {
        let mut out = [with!(vdupq_n_f32(0.0)); 4];
        for (out, from) in out.iter_mut().zip(quarters(from)) {
            // fcvtl is part of the base set; only its intrinsic asks for the fp16 feature.
            let bits = with!(vld1_u16(from.as_ptr().cast()));
            // SAFETY: registers only, base instruction.
            unsafe {
                asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) *out, in(vreg) bits,
                     options(pure, nomem, nostack, preserves_flags));
            }
        }
        out
    }
    #[inline(always)]
    fn store_f16(self, x: [float32x4_t; 4], to: &mut [f16; 16]) {
        for (x, to) in x.into_iter().zip(to.as_chunks_mut::<4>().0) {
            let bits: uint16x4_t;
            // SAFETY: registers only, base instruction.
            unsafe {
                asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) bits, in(vreg) x,
                     options(pure, nomem, nostack, preserves_flags));
            }
            with!(vst1_u16(to.as_mut_ptr().cast(), bits));
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 16]) -> [float32x4_t; 4] {
        let bytes = with!(vld1q_s8(from.as_ptr()));
        let low = with!(vget_low_s8(bytes));
        let low = with!(vmovl_s8(low));
        let high = with!(vmovl_high_s8(bytes));
        let (first, third) = (with!(vget_low_s16(low)), with!(vget_low_s16(high)));
        let wide = [
            with!(vmovl_s16(first)),
            with!(vmovl_high_s16(low)),
            with!(vmovl_s16(third)),
            with!(vmovl_high_s16(high)),
        ];
        self.to_f32(wide)
    }
    #[inline(always)]
    fn store_i8(self, x: [float32x4_t; 4], to: &mut [i8; 16]) {
        let wide = each!(vcvtnq_s32_f32, x);
        let narrow = each!(vqmovn_s32, wide);
        let low = with!(vcombine_s16(narrow[0], narrow[1]));
        let high = with!(vcombine_s16(narrow[2], narrow[3]));
        let low = with!(vqmovn_s16(low));
        let high = with!(vqmovn_s16(high));
        let bytes = with!(vcombine_s8(low, high));
        with!(vst1q_s8(to.as_mut_ptr(), bytes));
    }
    #[inline(always)]
    fn add(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vaddq_f32, a, b)
    }
    #[inline(always)]
    fn sub(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vsubq_f32, a, b)
    }
    #[inline(always)]
    fn mul(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vmulq_f32, a, b)
    }
    #[inline(always)]
    fn div(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vdivq_f32, a, b)
    }
    #[inline(always)]
    fn max(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vmaxq_f32, a, b)
    }
    #[inline(always)]
    fn min(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vminq_f32, a, b)
    }
    #[inline(always)]
    fn abs(self, a: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vabsq_f32, a)
    }
    #[inline(always)]
    fn mul_add(self, a: [float32x4_t; 4], b: [float32x4_t; 4], c: [float32x4_t; 4]) -> [float32x4_t; 4] {
        [
            with!(vfmaq_f32(c[0], a[0], b[0])),
            with!(vfmaq_f32(c[1], a[1], b[1])),
            with!(vfmaq_f32(c[2], a[2], b[2])),
            with!(vfmaq_f32(c[3], a[3], b[3])),
        ]
    }
    #[inline(always)]
    fn round(self, a: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vrndnq_f32, a)
    }
    #[inline(always)]
    fn exp2_integral(self, n: [float32x4_t; 4]) -> [float32x4_t; 4] {
        let n = each!(vcvtnq_s32_f32, n);
        let bias = self.splat_i32(127);
        let n = each!(vaddq_s32, n, bias);
        let mut out = [with!(vdupq_n_f32(0.0)); 4];
        for (out, n) in out.iter_mut().zip(n) {
            let bits = with!(vshlq_n_s32::<23>(n));
            *out = with!(vreinterpretq_f32_s32(bits));
        }
        out
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> [int32x4_t; 4] {
        [with!(vdupq_n_s32(x)); 4]
    }
    #[inline(always)]
    fn add_i32(self, a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
        each!(vaddq_s32, a, b)
    }
    #[inline(always)]
    fn times_256(self, a: [int32x4_t; 4]) -> [int32x4_t; 4] {
        [
            with!(vshlq_n_s32::<8>(a[0])),
            with!(vshlq_n_s32::<8>(a[1])),
            with!(vshlq_n_s32::<8>(a[2])),
            with!(vshlq_n_s32::<8>(a[3])),
        ]
    }
    #[inline(always)]
    fn to_f32(self, x: [int32x4_t; 4]) -> [float32x4_t; 4] {
        each!(vcvtq_f32_s32, x)
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [uint8x16_t; 4] {
        let (q, _) = from.as_chunks::<16>();
        [
            with!(vld1q_u8(q[0].as_ptr())),
            with!(vld1q_u8(q[1].as_ptr())),
            with!(vld1q_u8(q[2].as_ptr())),
            with!(vld1q_u8(q[3].as_ptr())),
        ]
    }
    #[inline(always)]
    fn low_nibbles(self, codes: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        let mask = [with!(vdupq_n_u8(15)); 4];
        each!(vandq_u8, codes, mask)
    }
    #[inline(always)]
    fn high_nibbles(self, codes: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        [
            with!(vshrq_n_u8::<4>(codes[0])),
            with!(vshrq_n_u8::<4>(codes[1])),
            with!(vshrq_n_u8::<4>(codes[2])),
            with!(vshrq_n_u8::<4>(codes[3])),
        ]
    }
    #[inline(always)]
    fn bits(self, bytes: [uint8x16_t; 4], right: i32, mask: u8) -> [uint8x16_t; 4] {
        let count = [with!(vdupq_n_s8(-right as i8)); 4];
        let moved = each!(vshlq_u8, bytes, count);
        let mask = [with!(vdupq_n_u8(mask)); 4];
        each!(vandq_u8, moved, mask)
    }
    #[inline(always)]
    fn or(self, a: [uint8x16_t; 4], b: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        each!(vorrq_u8, a, b)
    }
    #[inline(always)]
    fn lookup(self, codes: [uint8x16_t; 4], table: &[u8; 16]) -> [uint8x16_t; 4] {
        let table = [with!(vld1q_u8(table.as_ptr())); 4];
        each!(vqtbl1q_u8, table, codes)
    }
    #[inline(always)]
    fn lookup_32(self, codes: [uint8x16_t; 4], table: &[u8; 32]) -> [uint8x16_t; 4] {
        let [low, high] = half_tables(table);
        let table = uint8x16x2_t(with!(vld1q_u8(low.as_ptr())), with!(vld1q_u8(high.as_ptr())));
        let table = [table; 4];
        each!(vqtbl2q_u8, table, codes)
    }
    #[inline(always)]
    fn dot_small(self, sum: [int32x4_t; 4], codes: [uint8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        let codes = each!(vreinterpretq_s8_u8, codes);
        self.dot(sum, codes, x)
    }
    #[inline(always)]
    fn dot_bytes(self, sum: [int32x4_t; 4], codes: [uint8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        let flip = [with!(vdupq_n_u8(128)); 4];
        let signed = each!(veorq_u8, codes, flip);
        self.dot_small(sum, signed, x)
    }
    #[inline(always)]
    fn dots<C: Block, P: Plane, const W: usize>(
        self,
        block: &C,
        x: &[QuantGroup; W],
        dots: &mut [[int32x4_t; 4]; W],
    ) {
        if !MATRIX || W < 2 {
            return self.dots_from::<C, P, W>(block, x, dots, 0);
        }
        if W < 4 {
            matrix::dots::<MATRIX, C, P, 1>(self, block, x, dots);
        } else {
            matrix::dots::<MATRIX, C, P, 2>(self, block, x, dots);
        }
        if !W.is_multiple_of(2) {
            self.dots_from::<C, P, W>(block, x, dots, W - 1);
        }
    }
    #[inline(always)]
    fn column<const J: u32>(self, codes: [uint8x16_t; 4]) -> [float32x4_t; 4] {
        let shift = with!(vdupq_n_s32(-8 * J as i32));
        let mask = with!(vdupq_n_u32(255));
        let mut out = [with!(vdupq_n_f32(0.0)); 4];
        for (out, codes) in out.iter_mut().zip(codes) {
            let words = with!(vreinterpretq_u32_u8(codes));
            let shifted = with!(vshlq_u32(words, shift));
            let column = with!(vandq_u32(shifted, mask));
            *out = with!(vcvtq_f32_u32(column));
        }
        out
    }
}

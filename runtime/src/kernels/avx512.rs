//! AVX-512 with VNNI: one register for the sixteen lanes.

use super::simd::{Simd, compile, half_tables, prefetch};
use core::arch::x86_64::*;
use half::f16;

/// Proof that the CPU and the operating system support AVX-512 F, BW, DQ, VL and VNNI, and F16C and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni(());

impl Avx512Vnni {
    /// A proof, without a check.
    ///
    /// # Safety
    /// The CPU supports avx512f, avx512bw, avx512dq, avx512vl, avx512vnni, f16c and fma.
    pub unsafe fn assume() -> Self {
        Avx512Vnni(())
    }
}

compile!(Avx512Vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c", run);

/// Evaluates a register-only intrinsic.
macro_rules! with {
    ($call:expr) => {
        // SAFETY: the receiver, an `Avx512Vnni`, exists only where the CPU has these instructions, and the
        // intrinsic touches no memory but through the reference to an array of its exact size.
        unsafe { $call }
    };
}

impl Avx512Vnni {
    #[inline(always)]
    pub(super) fn load_i32(self, from: &[i32; 16]) -> __m512i {
        with!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    /// `a - b`, byte by byte.
    #[inline(always)]
    pub(super) fn store_difference(self, a: __m512i, b: __m512i, to: &mut [i8; 64]) {
        let difference = with!(_mm512_sub_epi8(a, b));
        with!(_mm512_storeu_si512(to.as_mut_ptr().cast(), difference))
    }
}

impl Simd for Avx512Vnni {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    const TILE: usize = 12;
    const BYTE_ZERO: i32 = 128;

    #[inline(always)]
    fn prefetch<T>(self, at: &T, ahead: usize, bytes: usize) {
        prefetch(at, ahead, bytes);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        with!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        with!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; 16]) {
        with!(_mm512_storeu_ps(to.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> __m512 {
        let bits = with!(_mm256_loadu_si256(from.as_ptr().cast()));
        with!(_mm512_cvtph_ps(bits))
    }
    #[inline(always)]
    fn store_f16(self, x: __m512, to: &mut [f16; 16]) {
        let bits = with!(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
        with!(_mm256_storeu_si256(to.as_mut_ptr().cast(), bits))
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 16]) -> __m512 {
        let bytes = with!(_mm_loadu_si128(from.as_ptr().cast()));
        let wide = with!(_mm512_cvtepi8_epi32(bytes));
        with!(_mm512_cvtepi32_ps(wide))
    }
    #[inline(always)]
    fn store_i8(self, x: __m512, to: &mut [i8; 16]) {
        let wide = with!(_mm512_cvtps_epi32(x));
        let bytes = with!(_mm512_cvtsepi32_epi8(wide));
        with!(_mm_storeu_si128(to.as_mut_ptr().cast(), bytes))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        with!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        with!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2_integral(self, n: __m512) -> __m512 {
        let one = self.splat(1.0);
        with!(_mm512_scalef_ps(one, n))
    }
    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        with!(_mm512_reduce_add_ps(x))
    }
    #[inline(always)]
    fn largest(self, x: __m512) -> f32 {
        with!(_mm512_reduce_max_ps(x))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        with!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn times_256(self, a: __m512i) -> __m512i {
        with!(_mm512_slli_epi32::<8>(a))
    }
    #[inline(always)]
    fn to_f32(self, x: __m512i) -> __m512 {
        with!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> __m512i {
        with!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn low_nibbles(self, codes: __m512i) -> __m512i {
        let mask = with!(_mm512_set1_epi8(15));
        with!(_mm512_and_si512(codes, mask))
    }
    #[inline(always)]
    fn high_nibbles(self, codes: __m512i) -> __m512i {
        let shifted = with!(_mm512_srli_epi16::<4>(codes));
        self.low_nibbles(shifted)
    }
    #[inline(always)]
    fn bits(self, bytes: __m512i, right: i32, mask: u8) -> __m512i {
        let count = with!(_mm_cvtsi32_si128(right.abs()));
        let moved = match right < 0 {
            true => with!(_mm512_sll_epi32(bytes, count)),
            false => with!(_mm512_srl_epi32(bytes, count)),
        };
        let mask = with!(_mm512_set1_epi8(mask as i8));
        with!(_mm512_and_si512(moved, mask))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn lookup(self, codes: __m512i, table: &[u8; 16]) -> __m512i {
        let table = with!(_mm_loadu_si128(table.as_ptr().cast()));
        let table = with!(_mm512_broadcast_i32x4(table));
        with!(_mm512_shuffle_epi8(table, codes))
    }
    #[inline(always)]
    fn lookup_32(self, codes: __m512i, table: &[u8; 32]) -> __m512i {
        let [low, high] = half_tables(table);
        // A shuffle reads the low four bits of an index below 128.
        let upper = with!(_mm512_set1_epi8(16));
        let upper = with!(_mm512_test_epi8_mask(codes, upper));
        let (low, high) = (self.lookup(codes, low), self.lookup(codes, high));
        with!(_mm512_mask_blend_epi8(upper, low, high))
    }
    #[inline(always)]
    fn dot_small(self, sum: __m512i, codes: __m512i, x: i32) -> __m512i {
        let x = self.splat_i32(x);
        with!(_mm512_dpbusd_epi32(sum, codes, x))
    }
    #[inline(always)]
    fn dot_bytes(self, sum: __m512i, codes: __m512i, x: i32) -> __m512i {
        self.dot_small(sum, codes, x)
    }
    #[inline(always)]
    fn column<const J: u32>(self, codes: __m512i) -> __m512 {
        let count = with!(_mm_cvtsi32_si128(8 * J as i32));
        let shifted = with!(_mm512_srl_epi32(codes, count));
        let mask = self.splat_i32(255);
        let column = with!(_mm512_and_si512(shifted, mask));
        self.to_f32(column)
    }
}

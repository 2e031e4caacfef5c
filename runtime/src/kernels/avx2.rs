//! AVX2 with FMA and F16C, optionally with AVX-VNNI: two registers for the sixteen lanes.

use super::simd::{Compile, Simd, compile, half_tables, prefetch};
use core::arch::x86_64::*;
use half::f16;

/// Proof that the CPU and the operating system support AVX2, FMA and F16C, and, where `VNNI`, AVX-VNNI.
#[derive(Clone, Copy, Debug)]
pub struct Avx<const VNNI: bool>(());

/// AVX2 alone.
pub type Avx2 = Avx<false>;
/// AVX2 with AVX-VNNI: four products and their sum in one instruction.
pub type AvxVnni = Avx<true>;

impl<const VNNI: bool> Avx<VNNI> {
    /// A proof, without a check.
    ///
    /// # Safety
    /// The CPU supports avx2, fma and f16c, and avxvnni where `VNNI`.
    pub unsafe fn assume() -> Self {
        Avx(())
    }
}

compile!(Avx2, "avx2,fma,f16c");
compile!(AvxVnni, "avx2,fma,f16c,avxvnni");

/// Evaluates a register-only intrinsic.
macro_rules! with {
    ($call:expr) => {
        // SAFETY: the receiver, an `Avx`, exists only where the CPU has these instructions, and the
        // intrinsic touches no memory but through the reference to an array of at least its size.
        unsafe { $call }
    };
}

/// One operation on both halves.
macro_rules! both {
    ($f:ident, $a:expr) => {
        [with!($f($a[0])), with!($f($a[1]))]
    };
    ($f:ident, $a:expr, $b:expr) => {
        [with!($f($a[0], $b[0])), with!($f($a[1], $b[1]))]
    };
    ($f:ident, $a:expr, $b:expr, $c:expr) => {
        [with!($f($a[0], $b[0], $c[0])), with!($f($a[1], $b[1], $c[1]))]
    };
}

#[inline(always)]
fn halves<T>(from: &[T; 16]) -> [&[T; 8]; 2] {
    let (halves, _) = from.as_chunks::<8>();
    [&halves[0], &halves[1]]
}

impl<const VNNI: bool> Avx<VNNI> {
    /// Sums of 4 adjacent products: unsigned `codes` by signed `x`; without `VNNI` every pair of products must fit 16 bits.
    #[inline(always)]
    fn dot(self, sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        if VNNI {
            return with!(_mm256_dpbusd_avx_epi32(sum, codes, x));
        }
        let pairs = with!(_mm256_maddubs_epi16(codes, x));
        let ones = with!(_mm256_set1_epi16(1));
        let fours = with!(_mm256_madd_epi16(pairs, ones));
        with!(_mm256_add_epi32(sum, fours))
    }
}

impl<const VNNI: bool> Simd for Avx<VNNI>
where
    Avx<VNNI>: Compile,
{
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    const TILE: usize = 4;
    const UNROLL: bool = VNNI;
    const BYTE_ZERO: i32 = if VNNI { 128 } else { 0 };

    #[inline(always)]
    fn prefetch<T>(self, at: &T, ahead: usize, bytes: usize) {
        prefetch(at, ahead, bytes);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        [with!(_mm256_set1_ps(x)); 2]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> [__m256; 2] {
        let [low, high] = halves(from);
        [with!(_mm256_loadu_ps(low.as_ptr())), with!(_mm256_loadu_ps(high.as_ptr()))]
    }
    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut [f32; 16]) {
        let (halves, _) = to.as_chunks_mut::<8>();
        with!(_mm256_storeu_ps(halves[0].as_mut_ptr(), x[0]));
        with!(_mm256_storeu_ps(halves[1].as_mut_ptr(), x[1]));
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> [__m256; 2] {
        let [low, high] = halves(from);
        let low = with!(_mm_loadu_si128(low.as_ptr().cast()));
        let high = with!(_mm_loadu_si128(high.as_ptr().cast()));
        [with!(_mm256_cvtph_ps(low)), with!(_mm256_cvtph_ps(high))]
    }
    #[inline(always)]
    fn store_f16(self, x: [__m256; 2], to: &mut [f16; 16]) {
        let (halves, _) = to.as_chunks_mut::<8>();
        let low = with!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
        let high = with!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        with!(_mm_storeu_si128(halves[0].as_mut_ptr().cast(), low));
        with!(_mm_storeu_si128(halves[1].as_mut_ptr().cast(), high));
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 16]) -> [__m256; 2] {
        let low = with!(_mm_loadu_si128(from.as_ptr().cast()));
        let high = with!(_mm_srli_si128::<8>(low));
        let low = with!(_mm256_cvtepi8_epi32(low));
        let high = with!(_mm256_cvtepi8_epi32(high));
        self.to_f32([low, high])
    }
    #[inline(always)]
    fn store_i8(self, x: [__m256; 2], to: &mut [i8; 16]) {
        let wide = both!(_mm256_cvtps_epi32, x);
        // Packing works within 128-bit halves: 0-3, 8-11, 4-7, 12-15.
        let packed = with!(_mm256_packs_epi32(wide[0], wide[1]));
        let ordered = with!(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        let low = with!(_mm256_castsi256_si128(ordered));
        let high = with!(_mm256_extracti128_si256::<1>(ordered));
        let bytes = with!(_mm_packs_epi16(low, high));
        with!(_mm_storeu_si128(to.as_mut_ptr().cast(), bytes))
    }
    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn abs(self, a: [__m256; 2]) -> [__m256; 2] {
        let sign = [with!(_mm256_set1_ps(-0.0)); 2];
        both!(_mm256_andnot_ps, sign, a)
    }
    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn round(self, a: [__m256; 2]) -> [__m256; 2] {
        const MODE: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        [with!(_mm256_round_ps::<MODE>(a[0])), with!(_mm256_round_ps::<MODE>(a[1]))]
    }
    #[inline(always)]
    fn exp2_integral(self, n: [__m256; 2]) -> [__m256; 2] {
        let n = both!(_mm256_cvtps_epi32, n);
        let bias = [with!(_mm256_set1_epi32(127)); 2];
        let biased = both!(_mm256_add_epi32, n, bias);
        let bits = [with!(_mm256_slli_epi32::<23>(biased[0])), with!(_mm256_slli_epi32::<23>(biased[1]))];
        both!(_mm256_castsi256_ps, bits)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> [__m256i; 2] {
        [with!(_mm256_set1_epi32(x)); 2]
    }
    #[inline(always)]
    fn add_i32(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn times_256(self, a: [__m256i; 2]) -> [__m256i; 2] {
        [with!(_mm256_slli_epi32::<8>(a[0])), with!(_mm256_slli_epi32::<8>(a[1]))]
    }
    #[inline(always)]
    fn to_f32(self, x: [__m256i; 2]) -> [__m256; 2] {
        both!(_mm256_cvtepi32_ps, x)
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [__m256i; 2] {
        let (halves, _) = from.as_chunks::<32>();
        let low = with!(_mm256_loadu_si256(halves[0].as_ptr().cast()));
        [low, with!(_mm256_loadu_si256(halves[1].as_ptr().cast()))]
    }
    #[inline(always)]
    fn low_nibbles(self, codes: [__m256i; 2]) -> [__m256i; 2] {
        let mask = [with!(_mm256_set1_epi8(15)); 2];
        both!(_mm256_and_si256, codes, mask)
    }
    #[inline(always)]
    fn high_nibbles(self, codes: [__m256i; 2]) -> [__m256i; 2] {
        let shifted = [with!(_mm256_srli_epi16::<4>(codes[0])), with!(_mm256_srli_epi16::<4>(codes[1]))];
        self.low_nibbles(shifted)
    }
    #[inline(always)]
    fn bits(self, bytes: [__m256i; 2], right: i32, mask: u8) -> [__m256i; 2] {
        let count = with!(_mm_cvtsi32_si128(right.abs()));
        let moved = match right < 0 {
            true => [with!(_mm256_sll_epi32(bytes[0], count)), with!(_mm256_sll_epi32(bytes[1], count))],
            false => [with!(_mm256_srl_epi32(bytes[0], count)), with!(_mm256_srl_epi32(bytes[1], count))],
        };
        let mask = [with!(_mm256_set1_epi8(mask as i8)); 2];
        both!(_mm256_and_si256, moved, mask)
    }
    #[inline(always)]
    fn or(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn lookup(self, codes: [__m256i; 2], table: &[u8; 16]) -> [__m256i; 2] {
        let table = with!(_mm_loadu_si128(table.as_ptr().cast()));
        let table = [with!(_mm256_broadcastsi128_si256(table)); 2];
        both!(_mm256_shuffle_epi8, table, codes)
    }
    #[inline(always)]
    fn lookup_32(self, codes: [__m256i; 2], table: &[u8; 32]) -> [__m256i; 2] {
        let [low, high] = half_tables(table);
        // A shuffle reads the low four bits of an index below 128; a blend the uppermost bit of each byte.
        let (low, high) = (self.lookup(codes, low), self.lookup(codes, high));
        let upper = [with!(_mm256_slli_epi16::<3>(codes[0])), with!(_mm256_slli_epi16::<3>(codes[1]))];
        [
            with!(_mm256_blendv_epi8(low[0], high[0], upper[0])),
            with!(_mm256_blendv_epi8(low[1], high[1], upper[1])),
        ]
    }
    #[inline(always)]
    fn dot_small(self, sum: [__m256i; 2], codes: [__m256i; 2], x: i32) -> [__m256i; 2] {
        let x = with!(_mm256_set1_epi32(x));
        [self.dot(sum[0], codes[0], x), self.dot(sum[1], codes[1], x)]
    }
    #[inline(always)]
    fn dot_bytes(self, sum: [__m256i; 2], codes: [__m256i; 2], x: i32) -> [__m256i; 2] {
        if VNNI {
            return self.dot_small(sum, codes, x);
        }
        // maddubs saturates at 16 bits, which codes up to 255 can reach. So: code - 128 as a signed byte, its
        // size as the unsigned side (at most 128) and its sign moved to x: 2 * 128 * 127 fits.
        let x = with!(_mm256_set1_epi32(x));
        let flip = [with!(_mm256_set1_epi8(-128)); 2];
        let signed = both!(_mm256_xor_si256, codes, flip);
        let size = both!(_mm256_abs_epi8, signed);
        let x = [with!(_mm256_sign_epi8(x, signed[0])), with!(_mm256_sign_epi8(x, signed[1]))];
        [self.dot(sum[0], size[0], x[0]), self.dot(sum[1], size[1], x[1])]
    }
    #[inline(always)]
    fn column<const J: u32>(self, codes: [__m256i; 2]) -> [__m256; 2] {
        let count = with!(_mm_cvtsi32_si128(8 * J as i32));
        let shifted = [with!(_mm256_srl_epi32(codes[0], count)), with!(_mm256_srl_epi32(codes[1], count))];
        let mask = self.splat_i32(255);
        self.to_f32(both!(_mm256_and_si256, shifted, mask))
    }
}

//! Vectors of sixteen lanes, which every kernel is written for.
//!
//! A panel has 16 rows, so one vector has one element for each row of a panel. An instruction set implements the operations
//! below with one 512-bit register, two 256-bit or four 128-bit registers. Kernels are generic over [`Simd`] and compiled for
//! each set.

use super::blocks::QuantGroup;
use crate::format::{Encoding, GROUP};
use half::{bf16, f16};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Both halves of a table of 32 entries.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
#[inline(always)]
pub(crate) fn half_tables(table: &[u8; 32]) -> [&[u8; 16]; 2] {
    let (halves, _) = table.as_chunks::<16>();
    [&halves[0], &halves[1]]
}

/// [`Simd::prefetch`] of both x86 sets.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch<T>(at: &T, ahead: usize, bytes: usize) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let from = core::ptr::from_ref(at).cast::<i8>();
    for line in (0..bytes).step_by(64) {
        // SAFETY: a prefetch reads nothing and never faults, wherever its address points; SSE is in every x86-64 CPU.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead + line)) };
    }
}

/// Work that is compiled as a separate function for each instruction set: see [`Compile::run`].
///
/// Compile time grows faster than the size of a function: keep them small.
pub(crate) trait Work {
    /// Its result.
    type Output;

    /// Computes it. Implementations are `inline(always)`, so that they take on the target features of that function.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// A set of target features to compile for; a value proves that the CPU supports them.
pub(crate) trait Compile: Copy {
    /// Calls the function that is `work` compiled for these features.
    fn run<W: Work>(self, work: W) -> W::Output;

    /// The same for work that needs many registers: only for sets with a [`Simd::TILE`] of at least 12.
    #[inline(always)]
    fn run_wide<W: Work>(self, _work: W) -> W::Output {
        unreachable!("wide tiles are for sets with many registers")
    }

    /// A value, without a check.
    ///
    /// # Safety
    /// The CPU supports these features.
    unsafe fn assume() -> Self;
}

/// Implements [`Compile`] for a type with its own `assume`; with a trailing `run`, for one with wide tiles.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compile {
    ($set:ty, $features:literal $(, $wide:ident)?) => {
        impl $crate::kernels::simd::Compile for $set {
            #[inline(always)]
            fn run<W: $crate::kernels::simd::Work>(self, work: W) -> W::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn compiled<W: $crate::kernels::simd::Work>(s: $set, work: W) -> W::Output {
                    work.run(s)
                }
                // SAFETY: the receiver exists only where the CPU has these features.
                unsafe { compiled(self, work) }
            }

            $(
                #[inline(always)]
                fn run_wide<W: $crate::kernels::simd::Work>(self, work: W) -> W::Output {
                    self.$wide(work)
                }
            )?

            unsafe fn assume() -> Self {
                // SAFETY: the caller's word is the one that is asked for.
                unsafe { <$set>::assume() }
            }
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use compile;

/// Operations of one instruction set.
///
/// Every method is `inline(always)`, so that it takes on the target features of the function that [`Compile::run`] makes.
pub(crate) trait Simd: Compile {
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 64 bytes: for each of 16 rows the codes of 4 columns.
    type B: Copy;

    /// Tokens that a full matrix tile covers (4, 8 or 12): as many accumulators as fit the registers.
    const TILE: usize;
    /// Whether [`Simd::dots_from`] is unrolled by hand, for sets where the compiler generates slower code for a loop.
    const UNROLL: bool = false;
    /// The zero point that [`Simd::dot_bytes`] leaves in its result (it is 0 where the codes are made signed).
    const BYTE_ZERO: i32;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, from: &[f32; 16]) -> Self::F;
    fn store(self, x: Self::F, to: &mut [f32; 16]);
    fn load_f16(self, from: &[f16; 16]) -> Self::F;
    fn store_f16(self, x: Self::F, to: &mut [f16; 16]);
    fn load_i8(self, from: &[i8; 16]) -> Self::F;
    /// Rounds to the nearest integer, ties to even; lanes are in -127 to 127.
    fn store_i8(self, x: Self::F, to: &mut [i8; 16]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// `a * b + c`, fused where the set has it.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The nearest integer as f32, for |a| below 2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// 2 to the power of an integral `n` between -126 and 127.
    fn exp2_integral(self, n: Self::F) -> Self::F;

    fn splat_i32(self, x: i32) -> Self::I;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn times_256(self, a: Self::I) -> Self::I;
    fn to_f32(self, x: Self::I) -> Self::F;

    fn load_bytes(self, from: &[u8; 64]) -> Self::B;
    fn low_nibbles(self, codes: Self::B) -> Self::B;
    fn high_nibbles(self, codes: Self::B) -> Self::B;
    /// Each byte's bits, moved right by `right` (left where that is negative; at most 7 places), of which those
    /// in `mask` are kept. The mask leaves out what moves in from a neighbouring byte.
    fn bits(self, bytes: Self::B, right: i32, mask: u8) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// The entry for each code (0 to 15).
    fn lookup(self, codes: Self::B, table: &[u8; 16]) -> Self::B;
    /// The entry for each code (0 to 31).
    fn lookup_32(self, codes: Self::B, table: &[u8; 32]) -> Self::B;
    /// Adds to each row the product of its 4 codes (0 to 127) and the 4 signed bytes of `x`.
    fn dot_small(self, sum: Self::I, codes: Self::B, x: i32) -> Self::I;
    /// The same with codes of 0 to 255; the result is too large by (128 - zero point left) x sum of `x`, see
    /// [`Simd::BYTE_ZERO`].
    fn dot_bytes(self, sum: Self::I, codes: Self::B, x: i32) -> Self::I;
    /// Column `J` (0 to 3) of 16 rows' codes, unsigned, as f32.
    fn column<const J: u32>(self, codes: Self::B) -> Self::F;

    /// Adds a block's codes times one plane of `W` tokens' activations, for each of 16 rows.
    #[inline(always)]
    fn dots<C: Block, P: Plane, const W: usize>(
        self,
        block: &C,
        x: &[QuantGroup; W],
        dots: &mut [Self::I; W],
    ) {
        self.dots_from::<C, P, W>(block, x, dots, 0);
    }

    /// [`Simd::dots`] of the tokens from `first` on, each by itself.
    #[inline(always)]
    fn dots_from<C: Block, P: Plane, const W: usize>(
        self,
        block: &C,
        x: &[QuantGroup; W],
        dots: &mut [Self::I; W],
        first: usize,
    ) {
        macro_rules! step {
            ($step:expr) => {
                let codes = block.codes(self, $step);
                for t in first..W {
                    dots[t] = dot::<Self, C>(self, dots[t], codes, P::words(&x[t])[$step]);
                }
            };
        }
        if Self::UNROLL {
            step!(0);
            step!(1);
            step!(2);
            step!(3);
            step!(4);
            step!(5);
            step!(6);
            step!(7);
        } else {
            for step in 0..GROUP / 4 {
                step!(step);
            }
        }
    }

    /// The products of a block with both planes at once, zero points subtracted; `None` for sets that take one plane at a time.
    #[inline(always)]
    fn joined_dots<C: Block, const W: usize>(self, _block: &C, _x: &[QuantGroup; W]) -> Option<[Self::I; W]> {
        None
    }

    /// Prefetches `bytes` bytes from `ahead` bytes after `at` on; does nothing by default.
    #[inline(always)]
    fn prefetch<T>(self, _at: &T, _ahead: usize, _bytes: usize) {}

    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    #[inline(always)]
    fn array(self, x: Self::F) -> [f32; 16] {
        let mut out = [0.0; 16];
        self.store(x, &mut out);
        out
    }

    #[inline(always)]
    fn load_bf16(self, from: &[bf16; 16]) -> Self::F {
        let mut wide = [0.0; 16];
        for (wide, x) in wide.iter_mut().zip(from) {
            *wide = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
        self.load(&wide)
    }

    /// Sum of all lanes, pairwise in a fixed order.
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        let mut lanes = self.array(x);
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }

    /// Largest lane.
    #[inline(always)]
    fn largest(self, x: Self::F) -> f32 {
        let mut lanes = self.array(x);
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] =
                    if lanes[lane + width] > lanes[lane] { lanes[lane + width] } else { lanes[lane] };
            }
        }
        lanes[0]
    }

    /// e^x within 2 units in the last place for x in -87 to 88; smaller inputs give about 1e-38, larger 1.6e38.
    ///
    /// Cody-Waite reduction by ln 2 in two parts and a polynomial of degree 6 (as in Cephes `expf`).
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        let x = self.min(self.max(x, self.splat(-87.0)), self.splat(88.0));
        let n = self.round(self.mul(x, self.splat(core::f32::consts::LOG2_E)));
        let r = self.mul_add(n, self.splat(-355.0 / 512.0), x);
        let r = self.mul_add(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        p = self.mul_add(p, r, self.splat(1.398_199_9e-3));
        p = self.mul_add(p, r, self.splat(8.333_452e-3));
        p = self.mul_add(p, r, self.splat(4.166_579_6e-2));
        p = self.mul_add(p, r, self.splat(1.666_666_5e-1));
        p = self.mul_add(p, r, self.splat(0.5));
        p = self.mul_add(self.mul(p, r), r, self.add(r, self.splat(1.0)));
        self.mul(p, self.exp2_integral(n))
    }
}

/// A quantized block: `scale * (code - ZERO) + minimum` for 16 rows of 32 columns.
pub(crate) trait Block: FromBytes + Immutable + KnownLayout {
    /// The encoding.
    const ENCODING: Encoding;
    /// The zero point of the codes.
    const ZERO: u8 = Self::ENCODING.layout().zero_point();
    /// Whether no code is above 127.
    const SMALL: bool = Self::ENCODING.layout().bits() < 8;
    /// The codes of columns `4 * step ..` of 16 rows; `step` is below 8.
    fn codes<S: Simd>(&self, s: S, step: usize) -> S::B;
    /// The rows' scales, without those in the panel's header.
    fn scales<S: Simd>(&self, s: S) -> S::F;
    /// The rows' minimums, if the encoding has them.
    #[inline(always)]
    fn minimums<S: Simd>(&self, _s: S) -> Option<S::F> {
        None
    }
}

/// One of the two planes of quantized activations.
pub(crate) trait Plane {
    fn words(x: &QuantGroup) -> &[i32; GROUP / 4];
}

/// Adds to each row the product of its 4 codes and the 4 signed bytes of `x`, with the operation for the range of the codes.
#[inline(always)]
pub(super) fn dot<S: Simd, C: Block>(s: S, sum: S::I, codes: S::B, x: i32) -> S::I {
    if C::SMALL { s.dot_small(sum, codes, x) } else { s.dot_bytes(sum, codes, x) }
}

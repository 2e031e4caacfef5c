//! The sixteen lanes as arrays: the reference, and the kernels for CPUs without a supported instruction set.

use super::blocks::QuantGroup;
use super::simd::{self, Block, Compile, Plane, Simd, Work};
use crate::format::GROUP;
use half::f16;

/// No CPU support needed.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Adding and subtracting this rounds |x| < 2^22 to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn zip(a: [f32; 16], b: [f32; 16], f: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = f(*out, b);
    }
    out
}

#[inline(always)]
fn dot(mut sum: [i32; 16], codes: [u8; 64], x: i32, zero: i32) -> [i32; 16] {
    let x = x.to_le_bytes();
    for (sum, codes) in sum.iter_mut().zip(codes.as_chunks::<4>().0) {
        for (&code, x) in codes.iter().zip(x) {
            *sum += (i32::from(code) - zero) * i32::from(x as i8);
        }
    }
    sum
}

impl Compile for Scalar {
    #[inline(never)]
    fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    unsafe fn assume() -> Self {
        Scalar
    }
}

impl Simd for Scalar {
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    const TILE: usize = 4;
    const BYTE_ZERO: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 16] {
        [x; 16]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> [f32; 16] {
        *from
    }
    #[inline(always)]
    fn store(self, x: [f32; 16], to: &mut [f32; 16]) {
        *to = x;
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (out, x) in out.iter_mut().zip(from) {
            *out = x.to_f32();
        }
        out
    }
    #[inline(always)]
    fn store_f16(self, x: [f32; 16], to: &mut [f16; 16]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = f16::from_f32(x);
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (out, &x) in out.iter_mut().zip(from) {
            *out = f32::from(x);
        }
        out
    }
    #[inline(always)]
    fn store_i8(self, x: [f32; 16], to: &mut [i8; 16]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = (x + ROUND - ROUND) as i8;
        }
    }
    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: [f32; 16]) -> [f32; 16] {
        zip(a, a, |a, _| f32::from_bits(a.to_bits() & 0x7fff_ffff))
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        // Not f32::mul_add: without an FMA instruction that is a library call for each lane.
        zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    fn round(self, a: [f32; 16]) -> [f32; 16] {
        zip(a, a, |a, _| a + ROUND - ROUND)
    }
    #[inline(always)]
    fn exp2_integral(self, n: [f32; 16]) -> [f32; 16] {
        zip(n, n, |n, _| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> [i32; 16] {
        [x; 16]
    }
    #[inline(always)]
    fn add_i32(self, mut a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }
    #[inline(always)]
    fn times_256(self, mut a: [i32; 16]) -> [i32; 16] {
        for a in &mut a {
            *a *= 256;
        }
        a
    }
    #[inline(always)]
    fn to_f32(self, x: [i32; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (out, x) in out.iter_mut().zip(x) {
            *out = x as f32;
        }
        out
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [u8; 64] {
        *from
    }
    #[inline(always)]
    fn low_nibbles(self, mut codes: [u8; 64]) -> [u8; 64] {
        for code in &mut codes {
            *code &= 15;
        }
        codes
    }
    #[inline(always)]
    fn high_nibbles(self, mut codes: [u8; 64]) -> [u8; 64] {
        for code in &mut codes {
            *code >>= 4;
        }
        codes
    }
    #[inline(always)]
    fn bits(self, mut bytes: [u8; 64], right: i32, mask: u8) -> [u8; 64] {
        for byte in &mut bytes {
            *byte = if right < 0 { *byte << -right } else { *byte >> right } & mask;
        }
        bytes
    }
    #[inline(always)]
    fn or(self, mut a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        for (a, b) in a.iter_mut().zip(b) {
            *a |= b;
        }
        a
    }
    #[inline(always)]
    fn lookup(self, mut codes: [u8; 64], table: &[u8; 16]) -> [u8; 64] {
        for code in &mut codes {
            *code = table[usize::from(*code & 15)];
        }
        codes
    }
    #[inline(always)]
    fn lookup_32(self, mut codes: [u8; 64], table: &[u8; 32]) -> [u8; 64] {
        for code in &mut codes {
            *code = table[usize::from(*code & 31)];
        }
        codes
    }
    #[inline(always)]
    fn dot_small(self, sum: [i32; 16], codes: [u8; 64], x: i32) -> [i32; 16] {
        dot(sum, codes, x, 0)
    }
    #[inline(always)]
    fn dot_bytes(self, sum: [i32; 16], codes: [u8; 64], x: i32) -> [i32; 16] {
        dot(sum, codes, x, 128)
    }
    /// A loop: optimizes for compile time, not for speed.
    #[inline(always)]
    fn dots_from<C: Block, P: Plane, const W: usize>(
        self,
        block: &C,
        x: &[QuantGroup; W],
        dots: &mut [[i32; 16]; W],
        first: usize,
    ) {
        // Of unknown length, so that the compiler does not unroll it.
        for step in 0..core::hint::black_box(GROUP / 4) {
            let step = step % (GROUP / 4);
            let codes = block.codes(self, step);
            for t in first..W {
                dots[t] = simd::dot::<Self, C>(self, dots[t], codes, P::words(&x[t])[step]);
            }
        }
    }
    #[inline(always)]
    fn column<const J: u32>(self, codes: [u8; 64]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (out, codes) in out.iter_mut().zip(codes.as_chunks::<4>().0) {
            *out = f32::from(codes[J as usize]);
        }
        out
    }
}

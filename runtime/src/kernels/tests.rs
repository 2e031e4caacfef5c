//! One test body for each operation; every instruction set that this CPU has must pass it.
//!
//! The oracle is plain f64 arithmetic on numbers decoded by the tests' own reading of FORMAT.md.

mod attention;
mod passes;
mod random_matrix;

use super::*;
use crate::format::{Encoding, GROUP};
pub(crate) use random_matrix::Random;
use random_matrix::{MATRICES, RandomMatrix};
use std::vec;
use std::vec::Vec;
use thimble_needs::skip_instructions;

/// Kernels of every instruction set at hand; says which ones are not.
pub(crate) fn all() -> Vec<Kernels> {
    let mut sets = vec![("scalar", Some(Kernels::scalar()))];
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        // SAFETY: just checked.
        sets.push(("avx2", avx2.then(|| Kernels::avx2(unsafe { Avx2::assume() }))));
        let vnni = avx2 && has!("avxvnni");
        // SAFETY: just checked.
        sets.push(("avx-vnni", vnni.then(|| Kernels::avx_vnni(unsafe { AvxVnni::assume() }))));
        let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        // SAFETY: just checked.
        let avx512 = (avx512 && has!("avx512vnni")).then(|| unsafe { Avx512Vnni::assume() });
        sets.push(("avx512", avx512.map(Kernels::avx512)));
        sets.push(("amx", avx512.and_then(Amx::request).map(Kernels::amx)));
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        // SAFETY: just checked.
        let neon = has!("dotprod").then(|| Kernels::neon(unsafe { DotProd::assume() }));
        sets.push(("neon", neon));
        // SAFETY: just checked.
        let i8mm = (has!("dotprod") && has!("i8mm")).then(|| Kernels::i8mm(unsafe { I8mm::assume() }));
        sets.push(("i8mm", i8mm));
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    sets.push(("simd128", Some(Kernels::simd128())));
    let here = |(name, kernels): (&str, Option<Kernels>)| {
        if kernels.is_none() {
            skip_instructions(
                &std::format!("the tests of the kernels for {name}"),
                "this CPU does not have it",
            );
        }
        kernels
    };
    sets.into_iter().filter_map(here).collect()
}

/// A pool that claims `threads` threads, and runs shards from the last to the first.
pub(crate) struct Backwards {
    pub(crate) threads: usize,
}

// SAFETY: the loop visits each number once, and each call has returned before the next begins.
unsafe impl ThreadPool for Backwards {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, shards: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..shards).rev().for_each(job);
    }
}

fn quantize(kernels: &Kernels, x: &[f32], columns: usize) -> Vec<QuantGroup> {
    let tokens = x.len() / columns;
    let mut groups = vec![QuantGroup::default(); tiled_groups(tokens, columns, kernels.tile).unwrap()];
    let parallel = ParallelKernels { kernels: *kernels, pool: &SingleThread };
    parallel.prepare(x, columns, None, Some(&mut groups));
    groups
}

fn multiply(kernels: Kernels, input: Input<'_>, product: Product<'_>) {
    ParallelKernels { kernels, pool: &SingleThread }.multiply(input, [product]);
}

const SHAPES: &[(usize, usize)] = if cfg!(miri) {
    &[(17, 33)]
} else {
    &[(1, 1), (15, 31), (16, 32), (17, 33), (48, 96), (33, 100), (130, 576), (64, 1536)]
};
const TOKENS: &[usize] =
    if cfg!(miri) { &[1] } else { &[1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 25, 30, 35] };

#[test]
fn products_match_f64() {
    let mut random = Random(1);
    // Miri takes minutes for each; these have all that the others have.
    let encodings = if cfg!(miri) { &[Encoding::F16, Encoding::Q4Min, Encoding::Q5Nl] } else { MATRICES };
    for &(rows, columns) in SHAPES {
        for &encoding in encodings {
            let sample = RandomMatrix::new(encoding, rows, columns, &mut random);
            let aligned = sample.aligned();
            for &tokens in TOKENS {
                let x = random.floats(tokens * columns);
                let expected = sample.product(&x);
                for kernels in all() {
                    let groups = quantize(&kernels, &x, columns);
                    for groups in [None, Some(groups.as_slice())] {
                        let mut out = vec![f32::NAN; tokens * rows];
                        let product = Product { matrix: sample.matrix(&aligned), out: &mut out, add: false };
                        multiply(kernels, Input { floats: &x, groups, tokens }, product);
                        // f32 sums err by some units in the last place of the terms; two-plane activations by at
                        // most a fine step, 1/32,512 of their group's largest, which is at most 1 here.
                        let float = groups.is_none() || !encoding.is_quantized();
                        for (i, (out, (sum, size))) in out.iter().zip(&expected).enumerate() {
                            let row = i % rows;
                            let weights = &sample.values[row * columns..(row + 1) * columns];
                            let steps = weights.iter().map(|w| w.abs()).sum::<f64>() / 32_000.0;
                            let bound = 3e-6 * size + if float { 1e-9 } else { steps };
                            let error = (f64::from(*out) - sum).abs();
                            assert!(
                                error <= bound,
                                "{kernels:?} {encoding:?} {rows}x{columns} tokens {tokens} float {float} at {i}: \
                                 {out} for {sum}, bound {bound}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Integer kernels multiply exactly, so that instruction sets differ only by rounding of f32 sums.
#[test]
#[cfg_attr(miri, ignore = "there is one set under miri")]
fn integer_products_agree_between_sets() {
    let mut random = Random(2);
    const TOKENS: usize = 37;
    for encoding in MATRICES.iter().copied().filter(|encoding| encoding.is_quantized()) {
        let sample = RandomMatrix::new(encoding, 48, 96, &mut random);
        let aligned = sample.aligned();
        // Full-range activations: 16-bit accumulators that overflow would show here.
        let x: Vec<f32> = (0..96 * TOKENS).map(|_| if random.float() > 0.0 { 1.0 } else { -1.0 }).collect();
        let size: Vec<f64> = sample.product(&x).iter().map(|(_, size)| *size).collect();
        let mut first: Option<Vec<f32>> = None;
        for kernels in all() {
            let groups = quantize(&kernels, &x, 96);
            let mut out = vec![0.0; 48 * TOKENS];
            let product = Product { matrix: sample.matrix(&aligned), out: &mut out, add: false };
            multiply(kernels, Input { floats: &x, groups: Some(&groups), tokens: TOKENS }, product);
            let first = first.get_or_insert_with(|| out.clone());
            for ((a, b), size) in first.iter().zip(&out).zip(&size) {
                assert!((a - b).abs() <= 1e-6 * *size as f32, "{kernels:?} {encoding:?}: {b} for {a}");
            }
        }
    }
}

#[test]
fn products_add_to_what_is_there() {
    let mut random = Random(3);
    let sample = RandomMatrix::new(Encoding::F32, 20, 40, &mut random);
    let aligned = sample.aligned();
    let x = random.floats(2 * 40);
    for kernels in all() {
        let mut out = vec![100.0; 2 * 20];
        let product = Product { matrix: sample.matrix(&aligned), out: &mut out, add: true };
        multiply(kernels, Input { floats: &x, groups: None, tokens: 2 }, product);
        for (out, (sum, _)) in out.iter().zip(sample.product(&x)) {
            assert!((f64::from(*out) - 100.0 - sum).abs() < 1e-4, "{kernels:?}");
        }
    }
}

#[test]
fn rows_are_read_back() {
    let mut random = Random(4);
    // More than a panel of 16 rows and than a group of 32 columns, neither whole.
    let (rows, columns) = if cfg!(miri) { (17, 33) } else { (37, 70) };
    for &encoding in MATRICES {
        let sample = RandomMatrix::new(encoding, rows, columns, &mut random);
        let aligned = sample.aligned();
        for kernels in all() {
            for row in [0, 15, 16, rows - 1] {
                let mut out = vec![f32::NAN; columns];
                (kernels.row)(&sample.matrix(&aligned), row, &mut out);
                for (out, value) in out.iter().zip(&sample.values[row * columns..]) {
                    assert!(
                        (f64::from(*out) - value).abs() <= 1e-6 * value.abs() + 1e-9,
                        "{kernels:?} {encoding:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn groups_are_rounded_to_the_nearest() {
    let mut random = Random(5);
    let mut x = random.floats(3 * 80);
    x[..32].fill(0.0);
    // No promise but to come back.
    x[40] = f32::NAN;
    x[70..75].fill(-1e30);
    for kernels in all() {
        let groups = quantize(&kernels, &x, 80);
        assert_eq!(groups[0].step, 0.0, "{kernels:?}: a group of zeros");
        let width = matmul_job::tile_width(3, kernels.tile);
        for token in 1..3 {
            for (g, group) in x[token * 80..(token + 1) * 80].chunks(GROUP).enumerate() {
                let found = &groups[g * width + token];
                let bytes = |words: &[i32]| -> Vec<i32> {
                    words.iter().flat_map(|w| w.to_le_bytes()).map(|b| i32::from(b as i8)).collect()
                };
                let planes = bytes(&found.codes).into_iter().zip(bytes(&found.fine));
                let codes: Vec<i32> = planes.map(|(code, fine)| 256 * code + fine).collect();
                let largest = group.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                assert!((found.step - largest / 127.0 / 256.0).abs() <= 1e-6 * largest);
                assert_eq!(found.steps, codes.iter().sum::<i32>());
                assert!((found.sum - found.step * found.steps as f32).abs() <= 1e-6 * found.sum.abs());
                for (x, code) in group.iter().zip(&codes) {
                    let off = x / found.step - *code as f32;
                    assert!(off.abs() <= 1.01, "{kernels:?}: {x} became {code} x {}", found.step);
                }
                assert!(codes[group.len()..].iter().all(|&c| c == 0));
            }
        }
    }
}

#[test]
fn norm_and_swiglu_match_f64() {
    let mut random = Random(6);
    for columns in [1, 15, 16, 17, 96, 576] {
        let x: Vec<f32> = random.floats(columns).iter().map(|x| x * 20.0).collect();
        let weight = random.floats(columns);
        for kernels in all() {
            let mut out = vec![0.0; columns];
            (kernels.norm)(&x, &weight, 1e-5, &mut out);
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / columns as f64;
            for ((out, x), w) in out.iter().zip(&x).zip(&weight) {
                let expected = f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*w);
                assert!((f64::from(*out) - expected).abs() <= 2e-6 * expected.abs() + 1e-9, "{kernels:?}");
            }
            let mut gate = x.clone();
            (kernels.swiglu)(&mut gate, &weight);
            for ((gate, x), up) in gate.iter().zip(&x).zip(&weight) {
                let x = f64::from(*x);
                let expected = x / (1.0 + (-x).exp()) * f64::from(*up);
                assert!((f64::from(*gate) - expected).abs() <= 1e-6 * expected.abs() + 1e-9, "{kernels:?}");
            }
        }
    }
}

#[test]
fn exp_is_accurate() {
    // Through SwiGLU's sigmoid nothing else is visible outside; this one looks at the lanes themselves.
    use simd::Simd;
    for i in (-8700..8800).step_by(if cfg!(miri) { 997 } else { 1 }) {
        let x = i as f32 / 100.0;
        let found = Scalar.exp(Scalar.splat(x))[3];
        let expected = f64::from(x).exp();
        assert!((f64::from(found) - expected).abs() <= 2.5e-7 * expected, "e^{x} is {found}");
    }
    assert!(Scalar.exp(Scalar.splat(f32::MIN))[0] < 1e-37);
}

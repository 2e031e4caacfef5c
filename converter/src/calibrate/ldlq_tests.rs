//! Compensated rounding against the published algorithm, written out in f64, and against rounding to nearest.

use super::*;
use crate::pack::unpack;
use crate::quantize::{Rows, encode_panel};
use crate::read::BlockType;

fn uniform(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Moments of inputs that share a few directions, as activations do.
fn correlated(columns: usize, seed: u64) -> Moments {
    let (samples, hidden) = (4 * columns, columns.div_ceil(6));
    let mix = uniform(hidden * columns, seed);
    let (causes, noise) = (uniform(samples * hidden, seed + 1), uniform(samples * columns, seed + 2));
    let mut values = vec![0.0; columns * columns];
    for s in 0..samples {
        let input = |c: usize| {
            let shared: f64 = (0..hidden).map(|h| causes[s * hidden + h] * mix[h * columns + c]).sum();
            shared + 0.15 * noise[s * columns + c] * (1.0 + c as f64 / columns as f64)
        };
        let input: Vec<f64> = (0..columns).map(input).collect();
        for i in 0..columns {
            for j in 0..columns {
                values[i * columns + j] += input[i] * input[j];
            }
        }
    }
    Moments { columns, values }
}

fn weights(rows: usize, columns: usize, seed: u64) -> Vec<f32> {
    uniform(12 * rows * columns, seed)
        .chunks(12)
        .map(|twelve| twelve.iter().sum::<f64>() as f32 * 0.1)
        .collect()
}

/// tr(E H E^T) of the difference.
fn cost(moments: &Moments, a: &[f32], b: &[f32]) -> f64 {
    let n = moments.columns;
    let row = |(a, b): (&[f32], &[f32])| -> f64 {
        let e: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(a - b)).collect();
        let each = |i: usize| e[i] * dot(&moments.values[i * n..][..n], &e);
        (0..n).map(each).sum()
    };
    a.chunks(n).zip(b.chunks(n)).map(row).sum()
}

fn inverse(moments: &Moments) -> Vec<f64> {
    let n = moments.columns;
    let (mut a, mut out) = (moments.values.clone(), vec![0.0; n * n]);
    (0..n).for_each(|i| out[i * n + i] = 1.0);
    for k in 0..n {
        let pivot = a[k * n + k];
        for j in 0..n {
            a[k * n + j] /= pivot;
            out[k * n + j] /= pivot;
        }
        for i in (0..n).filter(|&i| i != k) {
            let factor = a[i * n + k];
            for j in 0..n {
                a[i * n + j] -= factor * a[k * n + j];
                out[i * n + j] -= factor * out[k * n + j];
            }
        }
    }
    out
}

/// Optimal brain quantization of one row in the order of its columns, as the GPTQ paper states it (equations 2 and 3):
/// the inverse is brought up to date by elimination, nothing is factored.
fn published(row: &[f32], inverse: &[f64], nearest: impl Fn(f64) -> f64) -> Vec<f64> {
    let n = row.len();
    let mut inverse = inverse.to_vec();
    let mut row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
    for k in 0..n {
        let pivot = inverse[k * n + k];
        let rounded = nearest(row[k]);
        let error = (row[k] - rounded) / pivot;
        for j in k + 1..n {
            row[j] -= error * inverse[k * n + j];
        }
        row[k] = rounded;
        let line: Vec<f64> = inverse[k * n..][..n].to_vec();
        for i in k + 1..n {
            let factor = line[i] / pivot;
            for j in k + 1..n {
                inverse[i * n + j] -= factor * line[j];
            }
        }
    }
    row
}

#[test]
fn codes_are_those_of_the_published_algorithm() {
    for columns in [1, 31, 32, 33, 80, 97] {
        let mut moments = correlated(columns, columns as u64);
        moments.damp(0.01);
        let source = weights(5, columns, 7);
        let feedback = moments.feedback().unwrap();
        let quantizer = Quantizer::new(Encoding::Q8Row).unwrap();
        let (bytes, _) = round(quantizer, Encoding::Q8Row, &source, &feedback).unwrap();
        let stored = unpack(Encoding::Q8Row, &bytes, 5, columns).unwrap();
        let inverse = inverse(&moments);
        for (source, stored) in source.chunks(columns).zip(stored.chunks(columns)) {
            let scale = f64::from(source.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0);
            let nearest = |v: f64| (v / scale).round().clamp(-127.0, 127.0) * scale;
            let expected = published(source, &inverse, nearest);
            // A target close to the border between two codes may fall on either side, and moves those behind it.
            let differ =
                expected.iter().zip(stored).filter(|(e, s)| (*e - f64::from(**s)).abs() > 1e-3 * scale);
            assert!(differ.count() * 20 <= columns, "{columns} columns");
        }
    }
}

#[test]
fn compensation_beats_rounding_to_nearest_where_inputs_are_correlated() {
    for columns in [64, 192, 200] {
        let moments = correlated(columns, 3);
        let mut damped = moments.clone();
        damped.damp(0.01);
        let feedback = damped.feedback().unwrap();
        let source = weights(20, columns, 5);
        let bytes: Vec<u8> = source.iter().flat_map(|v| v.to_le_bytes()).collect();
        for encoding in [
            Encoding::Q3Nl,
            Encoding::Q4Nl,
            Encoding::Q5Nl,
            Encoding::Q6,
            Encoding::Q4,
            Encoding::Q4Min,
            Encoding::Q8,
            Encoding::Q8Row,
        ] {
            let panel_bytes = encoding.panel_bytes(columns).unwrap();
            let mut plain = vec![0; 2 * panel_bytes];
            for (panel, bytes) in plain.chunks_mut(panel_bytes).zip(bytes.chunks(PANEL * columns * 4)) {
                encode_panel(encoding, Rows { kind: BlockType::F32, bytes, columns }, panel).unwrap();
            }
            let (bytes, distortion) =
                round(Quantizer::new(encoding).unwrap(), encoding, &source, &feedback).unwrap();
            let [plain, stored] = [plain, bytes].map(|bytes| unpack(encoding, &bytes, 32, columns).unwrap());
            assert!(stored[20 * columns..].iter().all(|&v| v == 0.0), "padding rows are zero");
            let (nearest, compensated) = (cost(&moments, &source, &plain), cost(&moments, &source, &stored));
            assert!(compensated < 0.6 * nearest, "{encoding:?} {columns}: {compensated} against {nearest}");
            let measured: f64 = source.iter().zip(&stored).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            assert!(
                (distortion.error / measured - 1.0).abs() < 1e-3,
                "{encoding:?}: {} is not {measured}",
                distortion.error
            );
        }
    }
}

#[test]
fn factors_multiply_back_and_do_not_depend_on_threads() {
    for n in [1, 2, 63, 64, 65, 150] {
        let mut moments = correlated(n, 9);
        moments.damp(0.01);
        let m = moments.factor().unwrap();
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| m[i * n + k] * m[j * n + k]).sum();
                let expected = moments.values[i * n + j];
                assert!((product - expected).abs() < 1e-9 * moments.mean() * n as f64, "{n}: ({i}, {j})");
            }
            assert!(m[i * n..][..i].iter().all(|&v| v == 0.0), "upper triangular");
        }
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool(1).install(|| moments.factor()), pool(3).install(|| moments.factor()));
    }
}

#[test]
fn solving_finds_the_least_squares_change() {
    let n = 70;
    let mut moments = correlated(n, 4);
    moments.damp(0.01);
    let change = weights(3, n, 8);
    // Change x H, and back.
    let times = |row: &[f32], j: usize| -> f64 {
        (0..n).map(|i| f64::from(row[i]) * moments.values[i * n + j]).sum()
    };
    let mut correction: Vec<f32> =
        change.chunks(n).flat_map(|row| (0..n).map(|j| times(row, j) as f32).collect::<Vec<_>>()).collect();
    moments.feedback().unwrap().solve(&mut correction);
    assert!(correction.iter().zip(&change).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn dead_inputs_and_rows_of_zeros_are_fine() {
    let mut moments = Moments { columns: 40, values: vec![0.0; 1600] };
    moments.damp(0.01);
    let feedback = moments.feedback().unwrap();
    let mut source = weights(3, 40, 2);
    source[40..80].fill(0.0);
    for encoding in [Encoding::Q4Nl, Encoding::Q6, Encoding::Q8Row, Encoding::Q4Min] {
        let (bytes, _) = round(Quantizer::new(encoding).unwrap(), encoding, &source, &feedback).unwrap();
        let stored = unpack(encoding, &bytes, 3, 40).unwrap();
        assert!(stored[40..80].iter().all(|&v| v == 0.0), "{encoding:?}");
        assert!(stored.iter().zip(&source).all(|(a, b)| (a - b).abs() < 0.05), "{encoding:?}");
    }
    assert!(
        Moments { columns: 2, values: vec![1.0, 2.0, 2.0, 1.0] }.feedback().is_none(),
        "not positive definite"
    );
}

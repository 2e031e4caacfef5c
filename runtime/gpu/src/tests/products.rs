//! Matrix products and rows for every encoding: the oracle is the CPU's decoding of each row, multiplied in f64.

use super::{Random, TestDevice, device, plain_device};
use crate::MatmulVariant;
use crate::dispatch::{Epilogue, MAX_VECTOR_TOKENS, Operands, Product, can_pair};
use crate::kernels::Entry;
use crate::weights::partition;
use half::f16;
use thimble_runtime::format::{Encoding, GROUP, PANEL, WeightScales};
use thimble_runtime::kernels::{Kernels, Matrix};

/// Random weights of any encoding: random codes, scales of a sensible size.
pub(super) fn sample(encoding: Encoding, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let halves = |count: usize, size: f32, random: &mut Random| -> Vec<u8> {
        (0..count).flat_map(|_| f16::from_f32(random.float() * size).to_le_bytes()).collect()
    };
    let mut data = Vec::new();
    for panel in 0..rows.div_ceil(PANEL) {
        if encoding.panel_header() > 0 {
            let size = if encoding.has_two_level_scales() { 1e-4 } else { 0.01 };
            data.extend((0..PANEL).flat_map(|_| (random.float() * size).to_le_bytes()));
        }
        for _ in 0..columns.div_ceil(encoding.block_columns()) {
            match encoding {
                Encoding::F32 => data.extend((0..PANEL).flat_map(|_| random.float().to_le_bytes())),
                Encoding::F16 => data.extend(halves(PANEL, 1.0, random)),
                Encoding::BF16 => {
                    let upper = |x: f32| [x.to_le_bytes()[2], x.to_le_bytes()[3]];
                    data.extend((0..PANEL).flat_map(|_| upper(random.float())));
                }
                _ => {
                    let scales = match encoding.layout().scales {
                        WeightScales::Group => 2 * PANEL,
                        WeightScales::GroupAndMinimum => 4 * PANEL,
                        _ => 0,
                    };
                    data.extend((0..encoding.block_bytes() - scales).map(|_| random.next() as u8));
                    // The first panel's are subnormal, as those of small weights are.
                    let size = if panel == 0 { 3e-5 } else { 0.01 };
                    data.extend(halves(scales.min(2 * PANEL) / 2, size, random));
                    data.extend(halves(scales.saturating_sub(2 * PANEL) / 2, 0.1, random));
                }
            }
        }
    }
    assert_eq!(Some(data.len()), encoding.tensor_bytes(rows, columns));
    data
}

/// The bytes on a boundary that float panels need.
pub(super) fn aligned(data: &[u8]) -> Vec<[u64; 8]> {
    let mut aligned = vec![[0u64; 8]; data.len().div_ceil(64)];
    bytemuck::cast_slice_mut::<_, u8>(&mut aligned)[..data.len()].copy_from_slice(data);
    aligned
}

/// All rows, decoded by the CPU's kernels.
pub(super) fn decoded(matrix: &Matrix<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; matrix.rows * matrix.columns];
    for (row, out) in out.chunks_mut(matrix.columns).enumerate() {
        Kernels::scalar().row(matrix, row, out);
    }
    out
}

/// Largest error of a product relative to the sum of the sizes of its terms.
fn product_error(
    test: &mut TestDevice,
    matrices: &[Matrix<'_>],
    tokens: usize,
    max_bytes: u64,
    random: &mut Random,
) -> f64 {
    let columns = matrices[0].columns;
    let rows: usize = matrices.iter().map(|m| m.rows).sum();
    let stride = columns.next_multiple_of(GROUP);
    let mut x = vec![0.0f32; tokens * stride];
    let mut before = random.floats(tokens * rows);
    // Rows of other sizes, as behind a norm, an embedding or SwiGLU.
    for (token, row) in x.chunks_mut(stride).enumerate() {
        let size = [1.0, 1e-4, 300.0][token % 3];
        row[..columns].iter_mut().for_each(|x| *x = random.float() * size);
        before[token * rows..][..rows].iter_mut().for_each(|x| *x *= size);
    }
    let state = test.buffer(&[0u32, tokens as u32, 0, 0]);
    let input = test.buffer(&x);
    let output = test.buffer(&before);
    let mut products = Vec::new();
    for part in partition(matrices, max_bytes).unwrap() {
        let buffer = part.upload(&test.device);
        let operands = Operands::new(&state, (&input, stride), (&output, rows), Epilogue::Add);
        products.push(Product::new(&test.device, &mut test.kernels, (&part, &buffer), &operands));
    }
    let found: Vec<f32> =
        test.run(&output, |pass| products.iter().for_each(|product| product.record(pass, tokens)));
    let weights: Vec<Vec<f32>> = matrices.iter().map(decoded).collect();
    let weights = weights.concat();
    let mut worst = 0.0f64;
    for token in 0..tokens {
        for (row, weights) in weights.chunks(columns).enumerate() {
            let at = token * rows + row;
            let (mut sum, mut size) = (f64::from(before[at]), f64::from(before[at]).abs());
            for (w, x) in weights.iter().zip(&x[token * stride..]) {
                sum += f64::from(*w) * f64::from(*x);
                size += (f64::from(*w) * f64::from(*x)).abs();
            }
            worst = worst.max((f64::from(found[at]) - sum).abs() / size);
            assert!(found[at].is_finite());
        }
    }
    worst
}

/// Largest relative error that each kernel variant for products of many tokens may have; for few there is one.
fn bound(variant: MatmulVariant, tokens: usize) -> f64 {
    match variant {
        _ if tokens <= MAX_VECTOR_TOKENS => 3e-6,
        MatmulVariant::Plain => 3e-6,
        // Steps of the input are 2^-15 of the largest of a group.
        MatmulVariant::Dot4 => 3e-5,
        MatmulVariant::F16 => 2e-3,
        MatmulVariant::Cooperative => 3e-6,
    }
}

#[test]
fn products_match_f64_on_decoded_weights() {
    let Some(device) = device() else { return };
    let mut random = Random(1);
    for variant in device.matmul_variants().to_vec() {
        let mut test = TestDevice::with(device.clone().with_matmul_variant(variant).unwrap());
        for encoding in Encoding::matrices() {
            let mut worst = [0.0f64; 2];
            for (rows, columns) in [(1, 1), (15, 31), (17, 33), (48, 96), (33, 100), (130, 576), (64, 1536)] {
                let data = sample(encoding, rows, columns, &mut random);
                let data_aligned = aligned(&data);
                let bytes = &bytemuck::cast_slice(&data_aligned)[..data.len()];
                let matrix = Matrix { encoding, rows, columns, data: bytes };
                let few = if variant == device.matmul_variants()[0] { &[1, 3, 8][..] } else { &[] };
                for tokens in few.iter().chain(&[9, 65]) {
                    let error = product_error(&mut test, &[matrix], *tokens, u64::MAX, &mut random);
                    let bound = bound(variant, *tokens);
                    assert!(
                        error < bound,
                        "{variant:?} {encoding:?} {rows}x{columns}, {tokens} tokens: {error:e}"
                    );
                    let worst = &mut worst[usize::from(*tokens > MAX_VECTOR_TOKENS)];
                    *worst = worst.max(error);
                }
            }
            println!("{variant:?} {encoding:?}: largest relative errors {worst:?} for few and many tokens");
        }
    }
}

#[test]
fn matrices_are_partitioned() {
    let Some(mut test) = plain_device().map(TestDevice::with) else { return };
    let mut random = Random(2);
    let make = |encoding, rows, random: &mut Random| aligned(&sample(encoding, rows, 64, random));
    let kinds =
        [(Encoding::Q8, 32), (Encoding::Q8, 16), (Encoding::Q6, 24), (Encoding::Q6, 16), (Encoding::Q4, 100)];
    let data: Vec<_> = kinds.iter().map(|(encoding, rows)| make(*encoding, *rows, &mut random)).collect();
    let matrices: Vec<Matrix<'_>> = kinds
        .iter()
        .zip(&data)
        .map(|((encoding, rows), data)| {
            let bytes = encoding.tensor_bytes(*rows, 64).unwrap();
            let data = &bytemuck::cast_slice(data)[..bytes];
            Matrix { encoding: *encoding, rows: *rows, columns: 64, data }
        })
        .collect();
    // 24 rows do not end with a full panel, so that what follows them stands alone.
    let count = |max_bytes| partition(&matrices, max_bytes).unwrap().len();
    assert_eq!(count(u64::MAX), 4);
    // Two panels of Q8 are 2,176 bytes, three of Q4 1,728 of its 4,032.
    assert_eq!(count(2_200), 7);
    for max_bytes in [u64::MAX, 2_200, 1_200] {
        for tokens in [2, 20] {
            let error = product_error(&mut test, &matrices, tokens, max_bytes, &mut random);
            assert!(error < 3e-6, "partitions of {max_bytes} bytes: {error:e}");
        }
    }
    assert!(partition(&matrices, 100).is_err());
}

#[test]
fn embedding_rows_are_the_cpus() {
    let Some(mut test) = TestDevice::new() else { return };
    let mut random = Random(3);
    let (rows, columns, stride) = (53, 70, 96);
    for encoding in Encoding::matrices() {
        let data = sample(encoding, rows, columns, &mut random);
        let data_aligned = aligned(&data);
        let bytes = &bytemuck::cast_slice(&data_aligned)[..data.len()];
        let matrix = Matrix { encoding, rows, columns, data: bytes };
        let ids = [0u32, 52, 15, 16, 31, 32, 47, 48];
        let (tokens, x) = (test.buffer(&ids), test.buffer(&vec![0.0f32; ids.len() * stride]));
        let mut steps = Vec::new();
        let two_panels = 2 * encoding.panel_bytes(columns).unwrap() as u64;
        for part in partition(&[matrix], two_panels).unwrap() {
            let buffer = part.upload(&test.device);
            let (rows, first) = (part.rows as u32, part.first_row as u32);
            let shape = [rows, columns as u32, part.panel_words(), 0, stride as u32, first, 0, 0, 0, 0, 0, 0];
            steps.push(test.dispatch(Entry::Embed(encoding), shape, &[&buffer, &x, &tokens]));
        }
        let found: Vec<f32> =
            test.run(&x, |pass| steps.iter().for_each(|step| step.record(pass, [1, ids.len() as u32, 1])));
        let expected = decoded(&matrix);
        for (id, found) in ids.iter().zip(found.chunks(stride)) {
            let expected = &expected[*id as usize * columns..][..columns];
            for (found, expected) in found.iter().zip(expected) {
                let bound = 1e-6 * expected.abs() + 1e-9;
                assert!((found - expected).abs() <= bound, "{encoding:?} row {id}: {found} for {expected}");
            }
            assert!(found[columns..].iter().all(|x| *x == 0.0), "padding stays zero");
        }
    }
}

/// A norm in front, and rows in pairs behind: what decoding and prompts use for gate and up.
#[test]
fn normed_pairs_match_f64() {
    let Some(device) = device() else { return };
    for variant in device.matmul_variants().to_vec() {
        normed_pairs(&mut TestDevice::with(device.clone().with_matmul_variant(variant).unwrap()), variant);
    }
}

fn normed_pairs(test: &mut TestDevice, variant: MatmulVariant) {
    let mut random = Random(4);
    let mut worst = 0.0f64;
    for (i, encoding) in Encoding::matrices().enumerate() {
        for (ffn, columns) in [(16usize, 31usize), (48, 70), (96, 576)] {
            let stride = columns.next_multiple_of(GROUP);
            let data = [0, 1].map(|_| sample(encoding, ffn, columns, &mut random));
            let data_aligned = data.each_ref().map(|data| aligned(data));
            let matrix = |half: usize| {
                let data = &bytemuck::cast_slice(&data_aligned[half])[..data[half].len()];
                Matrix { encoding, rows: ffn, columns, data }
            };
            let [gate, up] = [matrix(0), matrix(1)];
            let parts = partition(&[gate, up], u64::MAX).unwrap();
            assert!(can_pair(&parts, ffn) && !can_pair(&parts, 24));
            let weights = [decoded(&gate), decoded(&up)];
            let mut weight = random.floats(columns);
            weight.resize(stride, 0.0);
            // As the head does: from the row that the state says.
            let first = i % 3;
            for tokens in [1, 8, 9, 70] {
                let mut x = vec![0.0f32; (first + tokens) * stride];
                for row in x.chunks_mut(stride) {
                    row[..columns].copy_from_slice(&random.floats(columns));
                    row[..columns].iter_mut().for_each(|x| *x *= 20.0);
                }
                let state = test.buffer(&[0u32, 99, first as u32, tokens as u32]);
                let (input, norm) = (test.buffer(&x), test.buffer(&weight));
                let out_stride = ffn + 32;
                let output = test.buffer(&vec![7.0f32; tokens * out_stride]);
                let operands = Operands {
                    head: true,
                    norm: Some((&norm, 1e-5)),
                    ..Operands::new(&state, (&input, stride), (&output, out_stride), Epilogue::Swiglu)
                };
                let buffer = parts[0].upload(&test.device);
                let product = Product::new(&test.device, &mut test.kernels, (&parts[0], &buffer), &operands);
                let found: Vec<f32> = test.run(&output, |pass| product.record(pass, tokens));
                for (token, found) in found.chunks(out_stride).enumerate() {
                    let x: Vec<f64> =
                        x[(first + token) * stride..][..columns].iter().map(|x| f64::from(*x)).collect();
                    let mean = x.iter().map(|x| x * x).sum::<f64>() / columns as f64;
                    let factor = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
                    for (row, found) in found[..ffn].iter().enumerate() {
                        let [(gate, gate_size), (up, up_size)] = weights.each_ref().map(|weights| {
                            let terms = weights[row * columns..][..columns].iter().zip(&weight).zip(&x);
                            terms.fold((0.0, 0.0), |(sum, size), ((w, n), x)| {
                                let term = f64::from(*w) * f64::from(*n) * x * factor;
                                (sum + term, size + term.abs())
                            })
                        });
                        let expected = gate / (1.0 + (-gate).exp()) * up;
                        let size = gate_size * up_size + gate_size + 1e-9;
                        let error = (f64::from(*found) - expected).abs() / size;
                        assert!(
                            error < 3.0 * bound(variant, tokens),
                            "{variant:?} {encoding:?} {ffn}x{columns}, {tokens} tokens: {error:e}"
                        );
                        worst = worst.max(error);
                    }
                    assert!(found[ffn..].iter().all(|x| *x == 7.0), "nothing behind the rows is touched");
                }
            }
        }
    }
    println!("{variant:?}, norm, products and SwiGLU at once: largest error {worst:e} of the terms' sizes");
}

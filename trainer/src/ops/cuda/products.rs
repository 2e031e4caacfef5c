//! A stand-in for cuBLASLt on the CPU: the same epilogues, sums in f32, rounded once.

use super::super::cpu::{MatrixView, WriteMode, matmul};
use super::launcher::{FactorMatrix, Launcher, NumberFormat, Product, Region};
use crate::error::Result;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use zerocopy::IntoBytes;

/// Computes a product with device memory that `launcher` copies.
pub(super) fn multiply(launcher: &impl Launcher, product: &Product) -> Result<()> {
    let [rows, columns, inner] = product.checked_shape()?;
    let left = read(launcher, product.left, [rows, inner])?;
    let right = read(launcher, product.right, [inner, columns])?;
    let view = |values, matrix: FactorMatrix, [rows, columns]: [usize; 2]| match matrix.transposed {
        false => MatrixView::strided(values, rows, columns, columns),
        true => MatrixView::strided(values, columns, rows, rows).transpose(),
    };
    let (left, right) =
        (view(&left, product.left, [rows, inner]), view(&right, product.right, [inner, columns]));
    let mut sums = match product.added {
        None => vec![0.0; rows * columns],
        Some(added) => read_rows(launcher, added, (product.format, product.stride), [rows, columns])?,
    };
    // As the tensor cores do: the product is summed first, and what is added comes last.
    let mut found = vec![0.0; rows * columns];
    matmul(&mut found, columns, WriteMode::Replace, 1.0, left, right);
    sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += product.factor * found);
    for (row, sums) in sums.chunks_exact(columns).enumerate() {
        let bytes = product.format.bytes();
        let to = product.output.part(row * product.stride * bytes, columns * bytes);
        match product.format {
            NumberFormat::F32 => launcher.upload(to, sums.as_bytes())?,
            NumberFormat::Bf16 => {
                let mut rounded = vec![bf16::ZERO; columns];
                rounded.convert_from_f32_slice(sums);
                launcher.upload(to, rounded.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// The elements of a factor as they are stored, without the gaps between rows.
fn read(launcher: &impl Launcher, matrix: FactorMatrix, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
    let shape = if matrix.transposed { [columns, rows] } else { [rows, columns] };
    read_rows(launcher, matrix.region, (NumberFormat::Bf16, matrix.stride), shape)
}

fn read_rows(
    launcher: &impl Launcher,
    region: Region,
    (format, stride): (NumberFormat, usize),
    [rows, columns]: [usize; 2],
) -> Result<Vec<f32>> {
    // Rows without gaps are one long row.
    let (rows, columns, stride) =
        if stride == columns { (1, rows * columns, rows * columns) } else { (rows, columns, stride) };
    let mut values = vec![0.0; rows * columns];
    for (row, values) in values.chunks_exact_mut(columns).enumerate() {
        let from = region.part(row * stride * format.bytes(), columns * format.bytes());
        match format {
            NumberFormat::F32 => launcher.download(from, values.as_mut_bytes())?,
            NumberFormat::Bf16 => {
                let mut stored = vec![bf16::ZERO; columns];
                launcher.download(from, stored.as_mut_bytes())?;
                stored.convert_to_f32_slice(values);
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::Emulator;
    use super::super::launcher::DeviceMemory;
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<bf16> {
        (0..count).map(|i| bf16::from_f32(((i * 7919 + seed * 101) % 257) as f32 / 128.0 - 1.0)).collect()
    }

    /// Transposed factors, gaps between rows, what is added, both formats.
    #[test]
    fn products_are_rounded_once() {
        let emulator = Emulator::new(1);
        let (rows, columns, inner) = (5, 7, 11);
        for case in 0..16 {
            let [left_t, right_t, f32s, adds] = [1, 2, 4, 8].map(|bit| case & bit != 0);
            let stored = |rows: usize, columns: usize, transposed: bool, seed: usize| {
                let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
                let stride = columns + 3;
                let values = numbers(rows * stride, seed);
                let memory = emulator.allocate(values.len() * 2).unwrap();
                emulator.upload(memory.region(), values.as_bytes()).unwrap();
                let matrix = FactorMatrix { region: memory.region(), stride, transposed };
                (memory, matrix, values)
            };
            let element = |(matrix, values): (&FactorMatrix, &[bf16]), i: usize, j: usize| {
                let (i, j) = if matrix.transposed { (j, i) } else { (i, j) };
                values[i * matrix.stride + j].to_f32()
            };
            let (_left, left, of_left) = stored(rows, inner, left_t, 1);
            let (_right, right, of_right) = stored(inner, columns, right_t, 2);
            let format = if f32s { NumberFormat::F32 } else { NumberFormat::Bf16 };
            let stride = columns + 2;
            let before: Vec<bf16> = numbers(rows * stride, 3);
            let bytes: Vec<u8> = match format {
                NumberFormat::Bf16 => before.as_bytes().to_vec(),
                NumberFormat::F32 => before.iter().flat_map(|x| x.to_f32().to_le_bytes()).collect(),
            };
            let output = emulator.allocate(bytes.len()).unwrap();
            emulator.upload(output.region(), &bytes).unwrap();
            let product = Product {
                shape: [rows, columns, inner],
                factor: 0.5,
                left,
                right,
                output: output.region(),
                stride,
                format,
                added: adds.then_some(output.region()),
            };
            emulator.multiply(&product).unwrap();
            let mut found = vec![0; bytes.len()];
            emulator.download(output.region(), &mut found).unwrap();
            for (at, before) in before.iter().enumerate() {
                let (i, j) = (at / stride, at % stride);
                let found = match format {
                    NumberFormat::Bf16 => bf16::from_le_bytes([found[2 * at], found[2 * at + 1]]).to_f32(),
                    NumberFormat::F32 => f32::from_le_bytes(found[4 * at..4 * at + 4].try_into().unwrap()),
                };
                if j >= columns {
                    assert_eq!(found, before.to_f32(), "between rows nothing is written");
                    continue;
                }
                // Products of these numbers are exact in f32, and so are their sums.
                let sum: f32 = (0..inner)
                    .map(|l| element((&left, &of_left), i, l) * element((&right, &of_right), l, j))
                    .sum();
                let exact = 0.5 * sum + if adds { before.to_f32() } else { 0.0 };
                let expected = if f32s { exact } else { bf16::from_f32(exact).to_f32() };
                assert_eq!(found, expected, "case {case}, {i} {j}");
            }
            let short = Product { output: output.region().part(0, bytes.len() - 16), ..product };
            assert!(
                emulator.multiply(&short).unwrap_err().to_string().contains("a product's output of 5 x 7")
            );
        }
    }
}

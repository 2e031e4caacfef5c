//! A small computation that shows whether a device runs the kernels and the products.

use super::kernels::{Given, launch};
use super::launcher::{DeviceMemory, FactorMatrix, Launcher, NumberFormat, Product};
use crate::error::{Error, Result};
use zerocopy::IntoBytes;

const SIZE: usize = 8;

/// Rounds a matrix to bf16 and multiplies it with its transpose, which is exact.
///
/// # Errors
/// The device fails, or computes something else.
pub fn self_test(launcher: &impl Launcher) -> Result<()> {
    let values: Vec<f32> = (0..SIZE * SIZE).map(|at| (at % 5) as f32 - 2.0).collect();
    let [matrix, product] = [(); 2].map(|()| launcher.allocate(SIZE * SIZE * size_of::<f32>()));
    let (matrix, product, rounded) = (matrix?, product?, launcher.allocate(SIZE * SIZE * 2)?);
    launcher.upload(matrix.region(), values.as_bytes())?;
    let given = [Given::F32s(matrix.region()), Given::Bf16s(rounded.region()), Given::Count(SIZE * SIZE)];
    launcher.launch(&launch("round_to_bf16", [1, 1, 1], 0, &given)?)?;
    let factor = FactorMatrix::new(rounded.region(), SIZE);
    launcher.multiply(&Product {
        shape: [SIZE; 3],
        factor: 0.5,
        left: factor,
        right: factor.transpose(),
        output: product.region(),
        stride: SIZE,
        format: NumberFormat::F32,
        added: None,
    })?;
    let mut found = vec![0.0f32; SIZE * SIZE];
    launcher.download(product.region(), found.as_mut_bytes())?;
    for (at, &found) in found.iter().enumerate() {
        let [i, j] = [at / SIZE, at % SIZE].map(|row| &values[row * SIZE..][..SIZE]);
        let expected = 0.5 * i.iter().zip(j).map(|(a, b)| a * b).sum::<f32>();
        if found != expected {
            return Err(Error::Invalid(format!("a test product gave {found}, expected {expected}")));
        }
    }
    Ok(())
}

//! Adapters merged into the matrices that they adapt: `W + weight * scale * B A`, in f32 before anything is quantized.

use super::SourceAdapter;
use crate::read::{BlockType, SourceModel, SourceTensor};
use crate::{ConvertError, dequantize};
use rayon::prelude::*;
use std::ops::Range;

/// What is added to one matrix, for each adapter that adapts it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MergedMatrix {
    /// Weight times scale.
    factor: f32,
    /// `[rank, columns]`.
    a: Vec<f32>,
    /// `[rows, rank]`.
    b: Vec<f32>,
    rank: usize,
}

impl SourceModel {
    /// Merges an adapter: from now on its matrices read as f32 with the adapter in them. `any_base` accepts an adapter of
    /// another model of the same shape.
    ///
    /// # Errors
    /// The adapter belongs to a model of another shape or fingerprint.
    pub fn merge(
        &mut self,
        adapter: &SourceAdapter,
        weight: f32,
        any_base: bool,
    ) -> Result<(), ConvertError> {
        adapter.check(self, any_base)?;
        for matrix in &adapter.matrices {
            let same = |tensor: &&mut SourceTensor| (tensor.role, tensor.layer) == (matrix.role, matrix.layer);
            // The check found each of them.
            let Some(tensor) = self.tensors.iter_mut().find(same) else { continue };
            if tensor.stored.is_none() {
                let stored = tensor.clone();
                *tensor = SourceTensor {
                    kind: BlockType::F32,
                    interleaved: None,
                    packed: None,
                    stored: Some(Box::new(stored)),
                    ..tensor.clone()
                };
            }
            let merged = MergedMatrix {
                factor: weight * matrix.scale,
                a: matrix.a.clone(),
                b: matrix.b.clone(),
                rank: matrix.rank,
            };
            self.merged.entry((matrix.layer, matrix.role as u16)).or_default().push(merged);
        }
        self.notes.push(format!("merged with the adapter {} (weight {weight})", adapter.source));
        Ok(())
    }
}

/// Reads rows of a merged tensor, which its source stores as `stored`, as f32.
pub(crate) fn read_rows(
    model: &SourceModel,
    stored: &SourceTensor,
    rows: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let columns = stored.columns;
    let mut bytes = Vec::new();
    model.read_rows(stored, rows.clone(), &mut bytes)?;
    let mut numbers = vec![0.0f32; rows.len() * columns];
    dequantize(stored.kind, &bytes, &mut numbers);
    let merged = model.merged.get(&(stored.layer, stored.role as u16)).map_or(&[][..], Vec::as_slice);
    numbers.par_chunks_mut(columns).zip(rows).for_each(|(numbers, row)| {
        for MergedMatrix { factor, a, b, rank } in merged {
            let mut sums = vec![0.0f32; columns];
            for (a, b) in a.chunks_exact(columns).zip(&b[row * rank..][..*rank]) {
                sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a * b);
            }
            numbers.iter_mut().zip(sums).for_each(|(number, sum)| *number += factor * sum);
        }
    });
    out.clear();
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Ok(())
}

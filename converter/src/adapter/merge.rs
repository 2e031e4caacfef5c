//! Adapters merged into the matrices that they adapt: `W + weight * scale * B A`, in f32 before anything is quantized.

use super::SourceAdapter;
use crate::ConvertError;
use crate::read::{BlockType, MergedMatrix, SourceModel, SourceTensor};

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
            let same =
                |tensor: &&mut SourceTensor| (tensor.role, tensor.layer) == (matrix.role, matrix.layer);
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

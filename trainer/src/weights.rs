//! Weights in safetensors files.

use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::model::parameters::NamedTensor;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::Path;
use zerocopy::IntoBytes;

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// The flat buffer of a `model.safetensors` (f32, bf16 or f16) with the tensors of these parameters.
///
/// # Errors
/// The file is missing or damaged; a tensor is missing, of another shape, or of another type; the parameters tie the
/// head to the embedding, and the file has another one.
pub fn read_weights(path: &Path, parameters: &Parameters) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let file = TensorFile::parse(path, &bytes)?;
    let weights = file.weights(parameters)?;
    if file.has_another_head(parameters, &weights)? {
        return Err(file.refuse(format!(
            "expected no {HEAD}, or the numbers of {EMBEDDING}, which the model ties it to; found other numbers"
        )));
    }
    Ok(weights)
}

/// The tensors of a safetensors file.
pub(crate) struct TensorFile<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
}

impl<'a> TensorFile<'a> {
    pub(crate) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<TensorFile<'a>> {
        match SafeTensors::deserialize(bytes) {
            Ok(file) => Ok(TensorFile { path, file }),
            Err(error) => Err(Error::Invalid(format!("{}: not a safetensors file: {error}", path.display()))),
        }
    }

    /// Tensors in the file.
    pub(crate) fn tensors(&self) -> usize {
        self.file.len()
    }

    /// A text of the metadata in the header of `bytes`, which the file was parsed from.
    pub(crate) fn metadata(&self, bytes: &[u8], key: &str) -> Option<String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        metadata.metadata().as_ref()?.get(key).cloned()
    }

    pub(crate) fn weights(&self, parameters: &Parameters) -> Result<Vec<f32>> {
        let mut weights = vec![0.0; parameters.len];
        self.read_all(parameters.named(), &mut weights)?;
        Ok(weights)
    }

    /// Reads tensors to their places in a flat buffer.
    pub(crate) fn read_all(&self, tensors: &[NamedTensor], weights: &mut [f32]) -> Result<()> {
        tensors.iter().try_for_each(|named| self.read(&named.name, &named.shape, &mut weights[named.range()]))
    }

    /// Whether the file has a head that differs from the embedding, where the parameters tie the two.
    pub(crate) fn has_another_head(&self, parameters: &Parameters, weights: &[f32]) -> Result<bool> {
        let (None, Some(embedding)) = (parameters.find(HEAD), parameters.find(EMBEDDING)) else {
            return Ok(false);
        };
        if self.file.tensor(HEAD).is_err() {
            return Ok(false);
        }
        let mut head = vec![0.0; embedding.len()];
        self.read(HEAD, &embedding.shape, &mut head)?;
        Ok(head != weights[embedding.range()])
    }

    pub(crate) fn read(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
        let tensor = self.file.tensor(name).map_err(|_| self.refuse(format!("tensor {name} is missing")))?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(self.refuse(format!("tensor {name} is {found:?}, expected {shape:?}")));
        }
        match tensor.dtype() {
            Dtype::F32 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Dtype::BF16 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = half::bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Dtype::F16 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = half::f16::from_le_bytes(*bytes).to_f32();
                }
            }
            other => {
                return Err(self.refuse(format!("tensor {name} is {other:?}, expected F32, BF16 or F16")));
            }
        }
        Ok(())
    }

    fn refuse(&self, what: String) -> Error {
        Error::Invalid(format!("{}: {what}", self.path.display()))
    }
}

/// Writes a safetensors file with these tensors of a flat buffer, in f32 or bf16.
///
/// # Errors
/// The file cannot be written.
pub fn write_weights(path: &Path, tensors: &[NamedTensor], weights: &[f32], dtype: Dtype) -> Result<()> {
    let narrowed: Vec<half::bf16> = match dtype {
        Dtype::BF16 => weights.iter().map(|&weight| half::bf16::from_f32(weight)).collect(),
        _ => Vec::new(),
    };
    let refuse = |error: safetensors::SafeTensorError| Error::Invalid(format!("{}: {error}", path.display()));
    let tensors = tensors.iter().map(|named| {
        let bytes = match dtype {
            Dtype::BF16 => narrowed[named.range()].as_bytes(),
            _ => weights[named.range()].as_bytes(),
        };
        Ok((named.name.as_str(), TensorView::new(dtype, named.shape.clone(), bytes)?))
    });
    let tensors = tensors.collect::<std::result::Result<Vec<_>, _>>().map_err(refuse)?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(path, tensors, Some(format))
}

/// Writes a safetensors file with the permissions of the process's umask; the crate itself makes it private.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: Vec<(&str, TensorView)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let usual = std::fs::File::create(path).and_then(|file| file.metadata());
    let usual = usual.map_err(Error::file(path, "write"))?.permissions();
    safetensors::serialize_to_file(tensors, metadata, path)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    std::fs::set_permissions(path, usual).map_err(Error::file(path, "write"))
}

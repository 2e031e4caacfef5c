//! Saves measured sensitivities, so that other sizes of the same model need no second measurement.

use super::{EncodingChoice, Sensitivity};
use crate::read::{SourceModel, SourceTensor};
use crate::write::write_error;
use crate::{ConvertError, recipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SensitivityFile {
    /// The [`fingerprint`] of model and text.
    #[serde(rename = "of")]
    fingerprint: String,
    /// Matrices in canonical order.
    matrices: Vec<Matrix>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    /// In the source.
    name: String,
    /// Nats per token, by encoding.
    divergence: BTreeMap<String, f64>,
}

/// A hash of configuration, weights and windows of tokens, which identifies model and text.
pub(super) fn fingerprint(model: &SourceModel, windows: &[Vec<u32>]) -> Result<String, ConvertError> {
    let mut hash = Xxh3::new();
    hash.update(&model.config.emit());
    let mut bytes = Vec::new();
    for tensor in model.tensors() {
        hash.update(format!("{:?}", tensor.kind).as_bytes());
        // A few megabytes at a time.
        for first in (0..tensor.rows).step_by(1024) {
            model.read_rows(tensor, first..tensor.rows.min(first + 1024), &mut bytes)?;
            hash.update(&bytes);
        }
    }
    for token in windows.iter().flatten() {
        hash.update(&token.to_le_bytes());
    }
    Ok(format!("{:016x}", hash.digest()))
}

fn matrices(model: &SourceModel) -> impl Iterator<Item = (usize, &SourceTensor)> {
    model.tensors().iter().enumerate().filter(|(_, tensor)| !tensor.role.is_vector())
}

impl Sensitivity {
    /// Loads `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or has another fingerprint.
    pub(super) fn load(
        path: &Path,
        model: &SourceModel,
        fingerprint: &str,
    ) -> Result<Option<Sensitivity>, ConvertError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConvertError::Read { path: path.to_owned(), source }),
        };
        let file: SensitivityFile = serde_json::from_slice(&text)
            .map_err(|source| ConvertError::Json { path: path.to_owned(), source })?;
        let fault = |what: &str| ConvertError::Recipe {
            reason: format!("{} {what}; remove it, or use another file", path.display()),
        };
        if file.fingerprint != fingerprint || file.matrices.len() != matrices(model).count() {
            return Err(fault("was measured on another model or another text"));
        }
        let mut choices: Vec<Vec<EncodingChoice>> =
            model.tensors().iter().map(EncodingChoice::of_norm).collect();
        for ((place, tensor), matrix) in matrices(model).zip(file.matrices) {
            for (name, divergence) in matrix.divergence {
                if !(divergence.is_finite() && divergence >= 0.0) {
                    return Err(fault(&format!("gives {} a divergence of {divergence}", matrix.name)));
                }
                let encoding = recipe::encoding(&name)
                    .map_err(|_| fault(&format!("has an unknown encoding {name:?}")))?;
                choices[place].extend(EncodingChoice::new(encoding, tensor.rows, tensor.columns, divergence));
            }
            if choices[place].is_empty() || matrix.name != tensor.name {
                return Err(fault(&format!("has nothing for {}", tensor.name)));
            }
        }
        Ok(Some(Sensitivity { choices }))
    }

    /// Saves `path` atomically.
    pub(super) fn save(
        &self,
        path: &Path,
        model: &SourceModel,
        fingerprint: String,
    ) -> Result<(), ConvertError> {
        let divergence = |choice: &EncodingChoice| (choice.encoding.name().to_owned(), choice.divergence);
        let matrices = matrices(model).map(|(place, tensor)| Matrix {
            name: tensor.name.clone(),
            divergence: self.choices[place].iter().map(divergence).collect(),
        });
        let content = SensitivityFile { fingerprint, matrices: matrices.collect() };
        let written = thimble_files::write_with(path, |out| Ok(serde_json::to_writer_pretty(out, &content)?));
        written.map_err(|error| write_error(path, 0, error))
    }
}

//! Folders of the PEFT library: adapter_config.json and adapter_model.safetensors.

use crate::error::{Error, Result};
use crate::frozen::require_same_base;
use crate::model::Parameters;
use crate::recipe::{AdaptedMatrix, AdapterKeys};
use crate::weights::{TensorFile, write_tensors};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use thimble_files::AtomicFolder;
use zerocopy::IntoBytes;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The key of the base model's hash in the metadata of the weights.
const BASE_HASH: &str = "thimble.base_hash";
/// The key of the base model's fingerprint, by which the converter knows it.
const BASE_FINGERPRINT: &str = "thimble.base_fingerprint";

/// An adapter to write.
#[derive(Clone, Copy, Debug)]
pub struct PeftAdapter<'a> {
    /// Rank, factor and adapted matrices.
    pub shape: &'a AdapterKeys,
    /// The layout of the weights.
    pub parameters: &'a Parameters,
    /// The flat buffer, of which only the trainable beginning is read.
    pub weights: &'a [f32],
    /// The base model's folder or repository, which PEFT loads it from ([`loadable`]).
    pub base: Option<&'a str>,
    /// The base model's hash ([`frozen_hash`](crate::frozen::frozen_hash)).
    pub base_hash: Option<&'a str>,
    /// The base model's fingerprint ([`thimble_converter::adapter::fingerprint`]), if the model is at hand.
    pub base_fingerprint: Option<u64>,
}

/// What PEFT can load of the model that `init_from` names: the repository of a name of the catalogue, a repository, or a Hugging
/// Face folder; none for a file.
pub fn loadable(typed: &str) -> Option<&str> {
    let path = Path::new(typed);
    match thimble_files::repository_of(typed) {
        _ if path.exists() => Some(typed).filter(|_| path.is_dir()),
        Some(repository) => Some(repository),
        None => Some(typed).filter(|_| !path.is_absolute() && path.components().count() == 2),
    }
}

/// Writes a folder that the PEFT library loads. The folder appears whole or not at all.
///
/// # Errors
/// The folder exists already, or a file cannot be written.
pub fn write(adapter: &PeftAdapter, folder: &Path) -> Result<()> {
    let unfinished = AtomicFolder::create(folder).map_err(Error::file(folder, "write"))?;
    let modules: Vec<&str> = adapter.shape.matrices().iter().map(|matrix| matrix.module()).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": adapter.shape.rank,
        "lora_alpha": adapter.shape.alpha(),
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "use_rslora": false,
        "use_dora": false,
    });
    let path = unfinished.path().join(CONFIG);
    std::fs::write(&path, format!("{config:#}\n")).map_err(Error::file(&path, "write"))?;
    let path = unfinished.path().join(WEIGHTS);
    let tensors = adapter.parameters.trained().iter().map(|named| {
        let bytes = adapter.weights[named.range()].as_bytes();
        Ok((named.name.as_str(), TensorView::new(Dtype::F32, named.shape.clone(), bytes)?))
    });
    let tensors = tensors
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    if let Some(hash) = adapter.base_hash {
        metadata.insert(BASE_HASH.to_owned(), hash.to_owned());
    }
    if let Some(fingerprint) = adapter.base_fingerprint {
        metadata.insert(BASE_FINGERPRINT.to_owned(), format!("{fingerprint:016x}"));
    }
    write_tensors(&path, tensors, Some(metadata))?;
    unfinished.publish().map_err(Error::file(folder, "write"))
}

/// Rank, factor and adapted matrices of a PEFT folder.
///
/// # Errors
/// The file is missing or damaged, or uses an option of PEFT that this crate lacks.
pub fn read_shape(folder: &Path) -> Result<AdapterKeys> {
    let path = folder.join(CONFIG);
    let refuse = |what: String| Error::Invalid(format!("{}: {what}", path.display()));
    let text = std::fs::read(&path).map_err(Error::file(&path, "read"))?;
    let config: Value = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text == "none",
        _ => false,
    };
    for key in [
        "use_dora",
        "fan_in_fan_out",
        "modules_to_save",
        "bias",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layer_replication",
        "lora_bias",
        "target_parameters",
        "trainable_token_indices",
        "use_qalora",
        "alora_invocation_tokens",
    ] {
        if config.get(key).is_some_and(|value| !is_off(value)) {
            return Err(refuse(format!("expected {key} to be off, found {}", config[key])));
        }
    }
    let kind = &config["peft_type"];
    if kind != "LORA" {
        return Err(refuse(format!("expected peft_type \"LORA\", found {kind}")));
    }
    let rank = config["r"].as_u64().and_then(|rank| usize::try_from(rank).ok()).filter(|&rank| rank > 0);
    let rank =
        rank.ok_or_else(|| refuse(format!("expected a rank r of at least 1, found {}", config["r"])))?;
    let alpha = config["lora_alpha"].as_f64().filter(|alpha| alpha.is_finite() && *alpha > 0.0);
    let alpha = alpha
        .ok_or_else(|| refuse(format!("expected a positive lora_alpha, found {}", config["lora_alpha"])))?;
    // Kalajdzievski 2023: alpha / sqrt(rank).
    let stabilized = config["use_rslora"].as_bool().unwrap_or(false);
    let alpha = if stabilized { alpha * (rank as f64).sqrt() } else { alpha };
    let matrices = match &config["target_modules"] {
        Value::String(all) if all == "all-linear" => AdaptedMatrix::ALL.to_vec(),
        Value::Array(names) => {
            let mut matrices = Vec::new();
            for name in names {
                let found =
                    AdaptedMatrix::ALL.into_iter().find(|matrix| name.as_str() == Some(matrix.module()));
                let known = AdaptedMatrix::ALL.map(AdaptedMatrix::module).join(", ");
                matrices.push(
                    found.ok_or_else(|| refuse(format!("target_modules: expected {known}, found {name}")))?,
                );
            }
            matrices.sort_by_key(|matrix| AdaptedMatrix::ALL.iter().position(|other| other == matrix));
            matrices
        }
        other => return Err(refuse(format!("expected a list of target_modules, found {other}"))),
    };
    Ok(AdapterKeys { rank, alpha: Some(alpha), matrices, from: None })
}

/// Reads a PEFT folder's weights into the beginning of a flat buffer that has its shape.
///
/// # Errors
/// The folder's adapter has another shape, belongs to another model, or its weights are damaged. `base_hash` is that of the
/// model at hand; PEFT's own files tell none, and are checked by their shapes alone.
pub fn read_weights(
    folder: &Path,
    shape: &AdapterKeys,
    parameters: &Parameters,
    (weights, base_hash): (&mut [f32], Option<&str>),
) -> Result<()> {
    let found = read_shape(folder)?;
    let key = |shape: &AdapterKeys| {
        let adapted = AdaptedMatrix::ALL.map(|matrix| shape.matrices().contains(&matrix));
        (shape.rank, shape.scale().to_bits(), adapted)
    };
    if key(&found) != key(shape) {
        let describe = |shape: &AdapterKeys| {
            let modules: Vec<&str> = shape.matrices().iter().map(|matrix| matrix.module()).collect();
            format!("rank {}, alpha {} on {}", shape.rank, shape.alpha(), modules.join(", "))
        };
        return Err(Error::Invalid(format!(
            "{}: expected an adapter of {}, as [adapter] says; found {}",
            folder.display(),
            describe(shape),
            describe(&found)
        )));
    }
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(Error::file(&path, "read"))?;
    let file = TensorFile::parse(&path, &bytes)?;
    if let (Some(then), Some(now)) = (file.metadata(&bytes, BASE_HASH), base_hash) {
        require_same_base(Some(&then), Some(now), &path.display().to_string())?;
    }
    let (found, expected) = (file.tensors(), parameters.trained().len());
    if found != expected {
        return Err(Error::Invalid(format!(
            "{}: expected {expected} tensors of this model's adapters, found {found}: the adapter belongs to another model",
            path.display()
        )));
    }
    file.read_all(parameters.trained(), weights)
}

#[cfg(test)]
mod tests {
    use super::loadable;

    #[test]
    fn peft_is_told_what_it_can_load() {
        let repository = "HuggingFaceTB/SmolLM2-135M-Instruct";
        assert_eq!(loadable("smollm2-135m-instruct"), Some(repository));
        assert_eq!(loadable(repository), Some(repository));
        let folder = tempfile::tempdir().unwrap();
        let typed = folder.path().to_str().unwrap();
        assert_eq!(loadable(typed), Some(typed));
        let file = folder.path().join("model.thimble");
        std::fs::write(&file, "").unwrap();
        assert_eq!(loadable(file.to_str().unwrap()), None);
        assert_eq!(loadable("/nowhere/model.gguf"), None);
    }
}

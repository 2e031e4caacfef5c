//! Normalizes tensor names to those of `LlamaForCausalLM`, and resolves tied heads.

use crate::read::source_file::SourceFile;
use crate::read::tensor::RawTensor;
use crate::{ConvertError, dequantize};
use std::collections::BTreeMap;
use thimble_runtime::format::{Config, TensorRole};

/// Numbers compared at once.
const CHUNK: usize = 1 << 20;

/// Renames every tensor to its name in `LlamaForCausalLM`.
///
/// A bare `LlamaModel` has no prefix `model.`, and a nested model has two; transformers reads both.
///
/// # Errors
/// A tensor with two of these names.
pub(super) fn rename(
    found: BTreeMap<String, RawTensor>,
) -> Result<BTreeMap<String, RawTensor>, ConvertError> {
    let mut renamed = BTreeMap::new();
    for (name, tensor) in found {
        let mut inner = name.as_str();
        while let Some(rest) = inner.strip_prefix("model.") {
            inner = rest;
        }
        let of_the_body = ["embed_tokens.", "layers.", "norm."].iter().any(|part| inner.starts_with(part));
        let full = if of_the_body { format!("model.{inner}") } else { name };
        if renamed.contains_key(&full) {
            let found = "there twice, with and without \"model.\" in front";
            return Err(ConvertError::unsupported(format!("tensor {full}"), found, "each tensor once"));
        }
        renamed.insert(full, tensor);
    }
    Ok(renamed)
}

/// Whether the head is the embedding; config.json says `tied`. Removes a redundant head from `found` and notes it.
///
/// # Errors
/// An untied head that is missing; a file that cannot be read.
pub(super) fn resolve_head(
    tied: bool,
    found: &mut BTreeMap<String, RawTensor>,
    files: &[SourceFile],
    notes: &mut Vec<String>,
) -> Result<bool, ConvertError> {
    let [head, embedding] = [TensorRole::Head, TensorRole::Embedding]
        .map(|role| role.hugging_face(TensorRole::NO_LAYER).to_string());
    match (found.get(&head), found.get(&embedding)) {
        (None, _) if tied => Ok(true),
        (None, _) => Err(ConvertError::MissingHead { name: head }),
        (Some(_), _) if !tied => Ok(false),
        (Some(a), Some(b)) => {
            if same_numbers(a, b, files)? {
                notes.push(format!("{head} left out: it is the embedding, which config.json ties it to"));
                found.remove(&head);
                return Ok(true);
            }
            // transformers keeps the head too, with a warning.
            notes.push(format!(
                "{head} kept: it differs from the embedding, although config.json says tie_word_embeddings"
            ));
            Ok(false)
        }
        (Some(_), None) => {
            notes.push(format!(
                "{head} is the embedding too: config.json ties them, and {embedding} is missing"
            ));
            if let Some(tensor) = found.remove(&head) {
                found.insert(embedding, tensor);
            }
            Ok(true)
        }
    }
}

/// Checks the rows of the embedding before the tokenizer's files, whose ids they bound, are read.
pub(super) fn check_rows(config: &Config, found: &BTreeMap<String, RawTensor>) -> Result<(), ConvertError> {
    let name = TensorRole::Embedding.hugging_face(TensorRole::NO_LAYER).to_string();
    let Some(embedding) = found.get(&name) else { return Ok(()) };
    if embedding.shape.first() == Some(&(config.vocab as u64)) {
        return Ok(());
    }
    let expected = vec![config.vocab as u64, config.hidden as u64];
    Err(ConvertError::Shape { name, expected, found: embedding.shape.clone() })
}

/// Whether two float tensors have the same shape and numbers, whatever their types.
fn same_numbers(a: &RawTensor, b: &RawTensor, files: &[SourceFile]) -> Result<bool, ConvertError> {
    if a.shape != b.shape {
        return Ok(false);
    }
    // The reader has checked that both lie inside their files.
    let count: u64 = a.shape.iter().product();
    let (mut bytes, mut values) = (Vec::new(), [Vec::new(), Vec::new()]);
    for start in (0..count).step_by(CHUNK) {
        let numbers = (count - start).min(CHUNK as u64) as usize;
        for (tensor, values) in [a, b].into_iter().zip(&mut values) {
            let size = tensor.kind.block_bytes();
            bytes.resize(numbers * size, 0);
            files[tensor.file].read_at(tensor.offset + start * size as u64, &mut bytes)?;
            values.resize(numbers, 0.0);
            dequantize(tensor.kind, &bytes, values);
        }
        if values[0] != values[1] {
            return Ok(false);
        }
    }
    Ok(true)
}

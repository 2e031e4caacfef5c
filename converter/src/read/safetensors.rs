//! Lists the tensors of safetensors files.

use super::names::{WEIGHTS, WEIGHTS_INDEX};
use super::source_file::SourceFile;
use super::tensor::RawTensor;
use super::{BlockType, json};
use crate::ConvertError;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length.
const LENGTH: u64 = 8;

/// The paths of a folder's safetensors files: `only`, else `model.safetensors`, else those in the index.
pub(super) fn paths(folder: &Path, only: Option<&Path>) -> Result<Vec<PathBuf>, ConvertError> {
    let single = folder.join(WEIGHTS);
    let index = folder.join(WEIGHTS_INDEX);
    match only {
        Some(path) => Ok(vec![path.to_owned()]),
        None if single.is_file() => Ok(vec![single]),
        None if index.is_file() => Ok(shards(&index)?.into_iter().map(|name| folder.join(name)).collect()),
        None => Err(ConvertError::NotAModel { path: folder.to_owned() }),
    }
}

/// Opens a folder's safetensors files, those of [`paths`].
pub(super) fn open(
    folder: &Path,
    only: Option<&Path>,
) -> Result<(Vec<SourceFile>, BTreeMap<String, RawTensor>), ConvertError> {
    let mut files = Vec::new();
    let mut found = BTreeMap::new();
    for path in paths(folder, only)? {
        let file = SourceFile::open(&path)?;
        for (name, tensor) in tensors(&file, files.len())? {
            if found.insert(name.clone(), tensor).is_some() {
                let what = format!("tensor {name}");
                return Err(ConvertError::unsupported(what, "in two files", "each tensor once"));
            }
        }
        files.push(file);
    }
    Ok((files, found))
}

/// The file names in an index, each once.
fn shards(index: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let listing: serde_json::Value = json::read(index)?;
    let expected = "an object of plain file names by tensor";
    let wrong = |field: &str| ConvertError::field(WEIGHTS_INDEX, field, expected);
    let map = listing.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| wrong("weight_map"))?;
    // A path could lead out of the folder.
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    let name = |(tensor, file): (&String, &serde_json::Value)| match file.as_str() {
        Some(name) if plain(name) => Ok(name.to_owned()),
        _ => Err(wrong(tensor)),
    };
    map.iter().map(name).collect()
}

/// The tensors of one file; the `safetensors` crate checks the header.
fn tensors(file: &SourceFile, index: usize) -> Result<Vec<(String, RawTensor)>, ConvertError> {
    let fail = |source| ConvertError::Safetensors { path: file.path().to_owned(), source };
    if file.len() < LENGTH {
        return Err(fail(SafeTensorError::HeaderTooSmall));
    }
    let mut length = [0; LENGTH as usize];
    file.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(fail(SafeTensorError::HeaderTooLarge));
    }
    if length > file.len() - LENGTH {
        return Err(fail(SafeTensorError::InvalidHeaderLength));
    }
    let mut header = vec![0; length as usize];
    file.read_at(LENGTH, &mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| fail(SafeTensorError::InvalidHeaderDeserialization(error)))?;
    let start = LENGTH + length;
    if start.checked_add(metadata.data_len() as u64) != Some(file.len()) {
        return Err(fail(SafeTensorError::MetadataIncompleteBuffer));
    }
    let mut found = Vec::new();
    for (name, info) in metadata.tensors() {
        // Old models store the rotary frequencies, which follow from the configuration.
        if name.ends_with(".rotary_emb.inv_freq") {
            continue;
        }
        let kind = match info.dtype {
            Dtype::F32 => BlockType::F32,
            Dtype::F16 => BlockType::F16,
            Dtype::BF16 => BlockType::BF16,
            other => {
                let what = format!("the type of tensor {name}");
                return Err(ConvertError::unsupported(what, format!("{other:?}"), "F32, F16 and BF16"));
            }
        };
        let shape = info.shape.iter().map(|&d| d as u64).collect();
        let offset = start + info.data_offsets.0 as u64;
        found.push((name, RawTensor { kind, shape, file: index, offset }));
    }
    Ok(found)
}

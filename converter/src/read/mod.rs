//! Reads Hugging Face folders, GGUF files and `.thimble` files as a [`SourceModel`].

mod block;
mod gguf;
mod gguf_metadata;
pub(crate) mod gguf_model;
mod gguf_split;
mod hf_folder;
mod json;
mod merged;
pub mod names;
mod panels;
mod safetensors;
mod source_file;
mod source_files;
mod source_model;
mod tensor;
mod thimble;

pub use block::BlockType;
pub use gguf::{Gguf, GgufError, GgufTensor, Value};
pub(crate) use gguf_metadata::{Metadata, field as gguf_field};
pub use gguf_split::shards;
pub(crate) use merged::MergedMatrix;
pub use source_files::source_files;
pub(crate) use source_model::add_stop;
pub use source_model::{Origin, Sections, SourceModel, TokenizerSource};
pub(crate) use tensor::RawTensor;
pub use tensor::SourceTensor;

use crate::ConvertError;
use std::path::Path;
use thimble_runtime::format::MAGIC;

/// Opens a Hugging Face folder (or its `model.safetensors`), a `.gguf` or a `.thimble` file. For a split GGUF model, any
/// shard names the whole model.
///
/// Reads only metadata; weights are read on demand.
pub fn open(source: &Path) -> Result<SourceModel, ConvertError> {
    let extension = source.extension().and_then(|e| e.to_str()).unwrap_or("");
    if source.metadata().map_err(ConvertError::read(source))?.is_dir() {
        return hf_folder::open(source, None);
    }
    match extension {
        "thimble" => thimble::open(source),
        "gguf" => gguf_model::open(source),
        "safetensors" => hf_folder::open(source.parent().unwrap_or(Path::new(".")), Some(source)),
        // Files in a cache may lack an extension: check the magic bytes.
        _ if source_file::SourceFile::open(source)?.starts_with(b"GGUF") => gguf_model::open(source),
        _ if source_file::SourceFile::open(source)?.starts_with(&MAGIC) => thimble::open(source),
        _ => Err(ConvertError::NotAModel { path: source.to_owned() }),
    }
}

/// Opens a Hugging Face folder whose weights are not there yet: configuration, tokenizer and chat template, without tensors.
/// Together with [`Sections::of`] it finds a model that cannot be converted before its weights are downloaded.
///
/// # Errors
/// As [`open`], except those that concern the weights.
pub fn open_without_weights(folder: &Path) -> Result<SourceModel, ConvertError> {
    hf_folder::open_without_weights(folder)
}

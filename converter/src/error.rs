//! What can go wrong between a source model and a `.thimble` file.

use crate::chat::ChatTemplateError;
use crate::read::GgufError;
use crate::tokenizer::TokenizerError;
use std::io;
use std::path::{Path, PathBuf};
use thimble_runtime::format::FormatError;
use thiserror::Error;

/// Why a model was not converted. Each variant names the file, field or tensor that it is about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A source file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The destination cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The destination's file system has no room.
    #[error("no space left for {} ({needed} bytes): free some or choose another folder", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Size of the whole file.
        needed: u64,
    },
    /// The path is neither a model folder, nor a `.gguf`, `.safetensors` or `.thimble` file.
    #[error(
        "{} holds no model: expected a .gguf or .thimble file, or a folder with config.json and model.safetensors",
        path.display()
    )]
    NotAModel {
        /// The path.
        path: PathBuf,
    },
    /// Bytes that are not GGUF.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// A part of a split GGUF model without the others, or one that does not fit them.
    #[error("{}: {reason}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Bytes that are not safetensors.
    #[error("{} is not a sound safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// Text that is not the JSON it should be.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A field that a model needs.
    #[error("{place}: {field} is missing or not {expected}")]
    Field {
        /// The file or metadata it belongs to.
        place: &'static str,
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Something that this converter knows of and does not support.
    #[error("{what} is {found}, which is not supported (supported: {supported})")]
    Unsupported {
        /// The feature, field or tensor.
        what: String,
        /// What the source has.
        found: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// A tensor that the configuration implies.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Its name in the source.
        name: String,
    },
    /// A model without a head.
    #[error(
        "tensor {name} is missing, and config.json does not tie the head to the embedding: add the tensor, or set \
         tie_word_embeddings to true if the embedding is the head"
    )]
    MissingHead {
        /// Its name in the source.
        name: String,
    },
    /// A tensor of another shape than the configuration implies.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name in the source.
        name: String,
        /// Rows and columns (one number for a vector).
        expected: Vec<u64>,
        /// What the source has.
        found: Vec<u64>,
    },
    /// A weight that is no number.
    #[error("tensor {name}, row {row}: a weight is infinite or not a number")]
    NotFinite {
        /// The tensor's name in the source.
        name: String,
        /// The row.
        row: usize,
    },
    /// A weight or scale that the encoding cannot hold.
    #[error("tensor {name}, row {row}: a weight is too large for {format}; choose f32 or bf16")]
    TooLarge {
        /// The tensor's name in the source.
        name: String,
        /// The row.
        row: usize,
        /// The encoding or type.
        format: String,
    },
    /// A `.thimble` file that is none.
    #[error(transparent)]
    Thimble(#[from] thimble_host::OpenError),
    /// The result would break a rule of the file format.
    #[error("this model does not fit the file format: {0}")]
    Format(#[from] FormatError),
    /// A tokenizer that cannot be converted.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A chat template that cannot be used.
    #[error("the chat template: {0}")]
    Chat(#[from] ChatTemplateError),
    /// A name that no quantization or type has.
    #[error("unknown {what} {found:?} (known: {known})")]
    UnknownName {
        /// What kind of name was expected.
        what: &'static str,
        /// The name found.
        found: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// Something is where a folder is to be written.
    #[error("{} exists already: choose another folder or remove it", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A table of encodings that cannot be used.
    #[error("the recipe: {reason}")]
    Recipe {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A report whose plot cannot be drawn.
    #[error("cannot draw the report's plot: {reason}")]
    Plot {
        /// What the drawing library says.
        reason: String,
    },
    /// Something that this build of the converter was made without.
    #[error(
        "{what} is not in this build: add the feature `{feature}`, as in `cargo install --path cli --features {feature}`"
    )]
    MissingFeature {
        /// What was asked for.
        what: &'static str,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// A calibration that cannot be made.
    #[error("calibration: {reason}")]
    Calibration {
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl ConvertError {
    /// A file that cannot be read.
    pub(crate) fn read(path: &Path) -> impl Fn(io::Error) -> ConvertError {
        let path = path.to_owned();
        move |source| ConvertError::Read { path: path.clone(), source }
    }

    /// A field that is missing or has the wrong type.
    pub(crate) fn field(place: &'static str, field: &str, expected: &'static str) -> ConvertError {
        ConvertError::Field { place, field: field.to_owned(), expected }
    }

    /// A value that the converter knows but does not support.
    pub(crate) fn unsupported(
        what: impl Into<String>,
        found: impl Into<String>,
        supported: &'static str,
    ) -> ConvertError {
        ConvertError::Unsupported { what: what.into(), found: found.into(), supported }
    }
}

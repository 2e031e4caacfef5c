//! Errors of a conversion.

use crate::chat::ChatTemplateError;
use crate::read::GgufError;
use crate::tokenizer::TokenizerError;
use std::io;
use std::path::{Path, PathBuf};
use thimble_runtime::adapter::AdapterError;
use thimble_runtime::format::FormatError;
use thiserror::Error;

/// Why a conversion failed. Each variant names the file, field or tensor.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A source file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// The destination cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system error.
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
    /// An invalid GGUF file.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// A shard of a split GGUF model that lacks the others or does not match them.
    #[error("{}: {reason}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An invalid safetensors file.
    #[error("{} is not a valid safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: safetensors::SafeTensorError,
    },
    /// Invalid JSON.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A missing or invalid field.
    #[error("{place}: {field} is missing or not {expected}")]
    Field {
        /// The file or metadata it belongs to.
        place: &'static str,
        /// The field.
        field: String,
        /// The expected value.
        expected: &'static str,
    },
    /// A feature that the converter does not support.
    #[error("{what} is {found}, which is not supported (supported: {supported})")]
    Unsupported {
        /// The feature, field or tensor.
        what: String,
        /// The value in the source.
        found: String,
        /// The supported values.
        supported: &'static str,
    },
    /// A missing tensor.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Its name in the source.
        name: String,
    },
    /// A missing head.
    #[error(
        "tensor {name} is missing, and config.json does not tie the head to the embedding: add the tensor, or set \
         tie_word_embeddings to true if the embedding is the head"
    )]
    MissingHead {
        /// Its name in the source.
        name: String,
    },
    /// A tensor whose shape does not match the configuration.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name in the source.
        name: String,
        /// Rows and columns (one number for a vector).
        expected: Vec<u64>,
        /// The shape in the source.
        found: Vec<u64>,
    },
    /// A weight that is infinite or not a number.
    #[error("tensor {name}, row {row}: a weight is infinite or not a number")]
    NotFinite {
        /// The tensor's name in the source.
        name: String,
        /// The row.
        row: usize,
    },
    /// A weight or scale that the encoding or type cannot hold.
    #[error("tensor {name}, row {row}: a weight is too large for {format}; choose f32 or bf16")]
    TooLarge {
        /// The tensor's name in the source.
        name: String,
        /// The row.
        row: usize,
        /// The encoding or type.
        format: String,
    },
    /// An adapter of another model.
    #[error("{name}: {source}")]
    Adapter {
        /// The adapter's file or folder name.
        name: String,
        /// What does not fit.
        source: AdapterError,
    },
    /// A `.thimble` or `.adapter` file that cannot be opened.
    #[error(transparent)]
    Thimble(#[from] thimble_files::OpenError),
    /// A model that violates the file format.
    #[error("this model does not fit the file format: {0}")]
    Format(#[from] FormatError),
    /// A tokenizer that cannot be converted.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A chat template that cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatTemplateError),
    /// An unknown name of a quantization or type.
    #[error("unknown {what} {found:?} (known: {known})")]
    UnknownName {
        /// What kind of name was expected.
        what: &'static str,
        /// The name found.
        found: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// The output folder exists.
    #[error("{} exists already: choose another folder or remove it", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// An invalid quantization recipe, or a target size that cannot be met.
    #[error("{reason}")]
    Recipe {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A plot that cannot be drawn.
    #[error("cannot draw the report's plot: {reason}")]
    Plot {
        /// The plotting library's error.
        reason: String,
    },
    /// A function that this build lacks.
    #[error(
        "{what} is not in this build: add the feature `{feature}`, as in `cargo install --path cli --features {feature}`"
    )]
    MissingFeature {
        /// The function.
        what: &'static str,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// A failed calibration.
    #[error("calibration: {reason}")]
    Calibration {
        /// What is wrong, and what to do.
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

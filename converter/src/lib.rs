//! Converts models between Hugging Face folders, GGUF files and `.thimble` files.
//!
//! The feature `calibrate` adds quantization for a model's activations (through candle), and `plot` the plot of reports.
//!
//! [`read::open`] opens any of them as a [`SourceModel`]; a [`Quant`] selects the encoding of each tensor; [`convert`]
//! streams the result to disk a few megabytes at a time, so that memory does not grow with the model.

pub mod adapter;
#[cfg(feature = "calibrate")]
mod allocate;
#[cfg(feature = "calibrate")]
pub mod calibrate;
pub mod chat;
pub mod config;
mod convert;
mod dequantize;
mod encode;
mod error;
pub mod export;
#[cfg(feature = "ggml")]
pub mod ggml;
pub mod onnx;
mod options;
pub mod pack;
mod plan;
mod progress;
pub mod quantize;
pub mod read;
pub mod recipe;
pub mod report;
mod sections;
#[cfg(test)]
mod test_config;
pub mod tokenizer;
pub mod write;
pub mod write_gguf;

pub use convert::{ConversionSummary, TensorSummary, convert, convert_model};
pub use dequantize::dequantize;
pub use error::ConvertError;
pub use options::ConversionOptions;
pub use progress::{ConversionProgress, ConversionStage};
pub use read::{BlockType, Sections, SourceModel};
pub use recipe::{Quant, SizeTarget, Table};

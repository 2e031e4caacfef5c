//! Turns a Hugging Face folder, a GGUF or a `.thimble` file into a `.thimble` file, a GGUF file or a Hugging Face folder.
//!
//! The features `calibrate` (candle) and `plot` bring what a plain conversion does without.
//!
//! [`read::open`] makes a [`SourceModel`] of either; a [`Quant`] says how each tensor is stored; [`convert`]
//! streams it to disk a few megabytes at a time, so memory does not grow with the model.

#[cfg(feature = "calibrate")]
mod allocate;
#[cfg(feature = "calibrate")]
pub mod calibrate;
pub mod chat;
mod convert;
mod dequantize;
mod encode;
mod error;
pub mod export;
#[cfg(feature = "ggml")]
pub mod ggml;
mod options;
pub mod pack;
mod plan;
mod progress;
pub mod quantize;
pub mod read;
pub mod recipe;
pub mod report;
mod sections;
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
pub use unfinished::remove_unfinished;

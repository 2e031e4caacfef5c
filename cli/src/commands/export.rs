//! `thimble export`: any model as a Hugging Face folder or an ONNX graph.

use crate::failure::Failure;
use crate::model::Location;
use crate::{conversion, interrupt, terminal};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use thimble_converter::ConvertError;
use thimble_converter::export::{Dtype, export};
use thimble_converter::onnx::{OnnxType, export_onnx};

/// `thimble export`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A .thimble or a .gguf file, a name from `thimble list`, or a Hugging Face folder whose type to change
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder to write, which must not exist
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// What to write: a Hugging Face folder, or an ONNX graph for onnxruntime and transformers.js
    #[arg(long, value_name = "FORMAT", default_value = "hf")]
    to: Format,
    /// Number format of the weights: f32 (always exact), bf16 or f16; for ONNX f32, f16 or q4 (blocks of 4 bits)
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: String,
}

/// A format to write, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// config.json, model.safetensors and the tokenizer, as transformers loads them
    Hf,
    /// onnx/model.onnx with its data, config.json and the tokenizer, as transformers.js loads them
    Onnx,
}

/// A format with the type of its weights.
enum Target {
    HuggingFace(Dtype),
    Onnx(OnnxType),
}

/// Which model to export, to where.
pub(crate) struct Job {
    model: Location,
    output: PathBuf,
    target: Target,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let target = match flags.to {
            Format::Hf => Target::HuggingFace(dtype(&flags.dtype)?),
            Format::Onnx => Target::Onnx(dtype(&flags.dtype)?),
        };
        Ok(Job { model: Location::source(&flags.model)?, output: flags.output, target })
    }

    /// Exports; a summary goes to stderr.
    pub(crate) fn run(self) -> Result<(), Failure> {
        interrupt::remove_unfinished_files()?;
        let source = self.model.fetch_source()?;
        let summary = conversion::with_progress(&source, |progress| {
            let model = thimble_converter::read::open(&source)?;
            match self.target {
                Target::HuggingFace(dtype) => export(&model, &self.output, dtype, progress),
                Target::Onnx(dtype) => export_onnx(&model, &self.output, dtype, progress),
            }
        })?;
        conversion::report_written(&self.output, [summary.bytes, summary.parameters], &summary.notes);
        if summary.rounding > 0.0 {
            terminal::note(&format!(
                "rounding error: {:.4}% of the weights' magnitude (relative RMS)",
                100.0 * summary.rounding
            ));
        }
        Ok(())
    }
}

/// The type of this name.
fn dtype<T: FromStr<Err = ConvertError>>(name: &str) -> Result<T, Failure> {
    name.parse().map_err(|error: ConvertError| Failure::Usage(format!("--dtype: {error}")))
}

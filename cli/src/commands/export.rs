//! `thimble export`: any model as a Hugging Face folder.

use crate::failure::Failure;
use crate::model::Location;
use crate::{conversion, interrupt, terminal};
use clap::Args;
use std::path::PathBuf;
use thimble_converter::export::{Dtype, export};

/// `thimble export`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A .thimble or a .gguf file, a name from `thimble list`, or a Hugging Face folder whose type to change
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder to write, which must not exist
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Number format of the weights: f32 (always exact), bf16 or f16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,
}

/// Which model to export, to where.
pub(crate) struct Job {
    model: Location,
    output: PathBuf,
    dtype: Dtype,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { model: Location::source(&flags.model)?, output: flags.output, dtype: flags.dtype })
    }

    /// Exports; a summary goes to stderr.
    pub(crate) fn run(self) -> Result<(), Failure> {
        interrupt::remove_unfinished_files()?;
        let source = self.model.fetch_source()?;
        let summary = conversion::with_progress(&source, |progress| {
            let model = thimble_converter::read::open(&source)?;
            export(&model, &self.output, self.dtype, progress)
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

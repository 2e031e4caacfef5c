//! `thimble export`: any model as a Hugging Face folder.

use crate::failure::Failure;
use crate::model::Location;
use crate::{conversion, interrupt, progress, terminal};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use thimble_converter::export::{Dtype, export};

/// `thimble export`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// A .thimble or a .gguf file, a name from `thimble list`, or a Hugging Face folder, to change its type
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The folder to write, which must not exist
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// How the weights are stored: f32 (exact whatever they are), bf16 or f16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: String,
}

/// From where to where.
pub(crate) struct Job {
    model: Location,
    output: PathBuf,
    dtype: Dtype,
}

impl Job {
    /// Refuses an unknown type before anything is read.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let dtype = flags.dtype.parse();
        let dtype = dtype.map_err(|error| Failure::Usage(format!("--dtype: {error}")))?;
        Ok(Job { model: Location::source(&flags.model)?, output: flags.output, dtype })
    }

    /// Exports; a summary goes to stderr.
    pub(crate) fn run(self, _stdout: &mut dyn Write) -> Result<(), Failure> {
        interrupt::tidying()?;
        let model = self.model.fetch_source()?;
        let bar = progress::bytes("exporting", 0);
        let written = thimble_converter::read::open(&model).and_then(|model| {
            export(&model, &self.output, self.dtype, &mut |progress| {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            })
        });
        bar.finish_and_clear();
        let summary = written.map_err(|error| conversion::failed(&model, error))?;
        conversion::tell(&self.output, [summary.bytes, summary.parameters], &summary.notes);
        if summary.rounding > 0.0 {
            terminal::note(&format!("rounding changed weights by {:.4}%", 100.0 * summary.rounding));
        }
        Ok(())
    }
}

//! `thimble-train report`.

use std::path::PathBuf;
use thimble_trainer::error::Result;
use thimble_trainer::report::page;

/// Write a report on a run: one HTML file with curves, samples, data and recipe.
///
/// It works for runs in progress too, and for runs that were killed. Result files of `thimble eval` or `thimble-train
/// eval` (-o RUN/NAME.json) that lie in the run folder are shown side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The run folder
    run: PathBuf,
    /// The file to write [default: report.html in the run folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let output = self.output.unwrap_or_else(|| self.run.join(page::FILE_NAME));
        page::write(&self.run, &output)?;
        eprintln!("wrote {}", output.display());
        Ok(())
    }
}

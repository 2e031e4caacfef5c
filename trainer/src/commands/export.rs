//! `thimble-train export`.

use thimble_trainer::error::{Error, Result};

/// Write a checkpoint as a Hugging Face folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("export is not built yet".into()))
    }
}

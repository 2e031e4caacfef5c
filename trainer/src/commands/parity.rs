//! `thimble-train parity`.

use thimble_trainer::error::{Error, Result};

/// Compare the engine with PyTorch on a folder of reference values.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("parity is not built yet".into()))
    }
}

//! `thimble-train tokenize`.

use thimble_trainer::error::{Error, Result};

/// Turn text into a token set.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("tokenize is not built yet".into()))
    }
}

//! `thimble-train plot`.

use thimble_trainer::error::{Error, Result};

/// Draw loss, learning rate and gradient norm of one or several runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("plot is not built yet".into()))
    }
}

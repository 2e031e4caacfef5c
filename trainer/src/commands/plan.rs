//! `thimble-train plan`.

use thimble_trainer::error::{Error, Result};

/// Show what a recipe costs: parameters, tokens, FLOPs, memory, time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("plan is not built yet".into()))
    }
}

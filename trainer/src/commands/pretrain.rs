//! `thimble-train pretrain`.

use thimble_trainer::error::{Error, Result};

/// Train a model as a recipe says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("pretrain is not built yet".into()))
    }
}

//! `thimble-train train-tokenizer`.

use thimble_trainer::error::{Error, Result};

/// Train a byte-level BPE tokenizer on text.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        Err(Error::Usage("train-tokenizer is not built yet".into()))
    }
}

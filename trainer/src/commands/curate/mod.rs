//! `thimble-train curate`.

mod decontaminate;
mod dedup;
mod display;
mod input;

use clap::Subcommand;
use thimble_trainer::error::Result;

/// Turn raw text into a training set: deduplicate, decontaminate, filter.
///
/// Every stage is a command of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Debug, Subcommand)]
enum Stage {
    Dedup(dedup::Flags),
    Decontaminate(decontaminate::Flags),
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        match self.stage {
            Stage::Dedup(flags) => flags.run(),
            Stage::Decontaminate(flags) => flags.run(),
        }
    }
}

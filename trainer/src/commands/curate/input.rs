//! The flags that every stage of curation has.

use crate::commands::shared;
use crate::commands::tokenize::ReadFlags;
use thimble_curate::source::{ReadOptions, TextSource};
use thimble_trainer::error::Result;

/// What is read, and with how many threads.
#[derive(Debug, clap::Args)]
pub(super) struct InputFlags {
    /// Files (.txt, .jsonl, plain, .gz or .zst; .parquet), folders, or `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    #[command(flatten)]
    reading: ReadFlags,
    /// Threads [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl InputFlags {
    pub(super) fn resolve(&self) -> Result<(Vec<TextSource>, ReadOptions)> {
        let read = self.reading.options();
        Ok((TextSource::resolve(&self.inputs, &read)?, read))
    }

    /// The field with the text.
    pub(super) fn field(&self) -> &str {
        self.reading.field()
    }

    pub(super) fn threads(&self) -> usize {
        shared::threads(self.threads)
    }
}

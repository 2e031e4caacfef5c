//! A job of `tokenize`, its progress, and its result.

use super::holdout::Holdout;
use crate::data::source::{ReadOptions, TextSource};
use crate::data::token_set::{Manifest, SetOptions};
use crate::data::tokenizer::Encoder;
use std::path::PathBuf;

/// What to tokenize, and how.
pub struct TokenizeJob<'a> {
    /// The texts, in order.
    pub sources: &'a [TextSource],
    /// How documents are extracted.
    pub read: ReadOptions,
    /// Skip records that cannot be read, and count them.
    pub skip_bad: bool,
    /// The tokenizer.
    pub encoder: &'a Encoder,
    /// The id after every document.
    pub end_of_document: u32,
    /// Ids at which a shard is closed.
    pub shard_tokens: u64,
    /// Threads that encode.
    pub threads: usize,
    /// Folder of the token set.
    pub output: PathBuf,
    /// The held-out set.
    pub holdout: Option<Holdout>,
}

/// What a run has done so far; a resumed run counts from its own start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizeProgress {
    /// Index of the source that is being read.
    pub source: usize,
    /// Documents written.
    pub documents: u64,
    /// Their bytes as text.
    pub bytes: u64,
    /// Their ids.
    pub tokens: u64,
    /// Records without text.
    pub empty: u64,
    /// Records that could not be read.
    pub bad: u64,
    /// The first one's place and fault.
    pub first_bad: Option<String>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizeSummary {
    /// The token set.
    pub set: Manifest,
    /// The held-out set.
    pub holdout: Option<Manifest>,
    /// What this run did; nothing if the set was complete already.
    pub progress: TokenizeProgress,
    /// Documents that earlier runs had written.
    pub resumed: u64,
}

impl TokenizeJob<'_> {
    pub(super) fn set_options(&self) -> SetOptions {
        SetOptions {
            tokenizer: self.encoder.path().to_owned(),
            vocab: self.encoder.vocab(),
            end_of_document: self.end_of_document,
            shard_tokens: self.shard_tokens,
        }
    }
}

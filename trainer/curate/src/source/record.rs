//! Records: the raw bytes of one document each, and their position in the sources.

use super::text_source::{SourceKind, TextSource};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Most bytes of one record: what bounds memory.
pub const MOST_RECORD_BYTES: usize = 256 << 20;

/// The position of the next record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Index of the source.
    pub source: usize,
    /// Lines or rows before it in that source, blank lines among them.
    pub record: u64,
    /// Records before it in all sources, without blank lines.
    pub index: u64,
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub at: SourcePosition,
    pub(super) range: Range<usize>,
}

/// Consecutive records.
#[derive(Debug, Default)]
pub struct RecordBatch {
    pub(super) bytes: Vec<u8>,
    /// In the order of the sources.
    pub records: Vec<Record>,
}

impl RecordBatch {
    /// The bytes of a record.
    pub fn raw(&self, record: &Record) -> &[u8] {
        &self.bytes[record.range.clone()]
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Record {
    /// The source with the line or row, counted from 1, for messages.
    pub fn place(&self, sources: &[TextSource]) -> String {
        sources.get(self.at.source).map(|source| place(source, self.at.record)).unwrap_or_default()
    }
}

/// A record of a source, counted from 1, for messages.
pub(super) fn place(source: &TextSource, record: u64) -> String {
    match source.kind {
        SourceKind::Text => source.name.clone(),
        SourceKind::Lines | SourceKind::JsonLines => format!("{}, line {}", source.name, record + 1),
        SourceKind::Parquet => format!("{}, row {}", source.name, record + 1),
    }
}

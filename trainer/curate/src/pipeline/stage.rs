//! Stages that look at one document.

use crate::decontaminate::{BenchmarkIndex, ContaminatedItem, item, most};
use crate::document::CorpusDocument;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Whether a document stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next stage.
    Keep,
    /// It is removed, for this reason.
    Remove(String),
}

/// A stage that decides about a document by itself, and may add columns to it.
pub trait DocumentStage: Send + Sync {
    /// The name in the report, and before the reason of a removal.
    fn name(&self) -> &str;

    /// Decides about a document. The result must depend on the document alone.
    fn apply(&self, document: &mut CorpusDocument) -> Verdict;
}

/// Documents that came to a stage, and what it removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCount {
    /// The stage.
    pub name: String,
    /// Documents that came.
    pub documents: u64,
    /// Documents that it removed.
    pub removed: u64,
    /// Bytes of their text.
    pub removed_bytes: u64,
}

/// Removes documents that hold text of a benchmark.
pub(super) struct Decontaminate {
    pub(super) index: BenchmarkIndex,
    pub(super) threshold: f64,
}

impl DocumentStage for Decontaminate {
    fn name(&self) -> &str {
        "decontaminate"
    }

    fn apply(&self, document: &mut CorpusDocument) -> Verdict {
        let matches = self.index.matches(&document.text);
        let Some(found) = most(matches.iter().filter(|found| found.share > self.threshold)) else {
            return Verdict::Keep;
        };
        let ContaminatedItem { benchmark, item, field, share, shared } = item(&self.index, found);
        document.fields.insert("contamination".into(), json!({ "share": share, "shared": shared }));
        Verdict::Remove(format!("{benchmark}, item {item}, {field}"))
    }
}

/// Removes documents with fewer or more bytes of text.
pub(super) struct Length {
    pub(super) least: usize,
    pub(super) most: usize,
}

impl DocumentStage for Length {
    fn name(&self) -> &str {
        "length"
    }

    fn apply(&self, document: &mut CorpusDocument) -> Verdict {
        let bytes = document.text.len();
        match bytes {
            _ if bytes < self.least => Verdict::Remove(format!("{bytes} bytes, fewer than {}", self.least)),
            _ if bytes > self.most => Verdict::Remove(format!("{bytes} bytes, more than {}", self.most)),
            _ => Verdict::Keep,
        }
    }
}

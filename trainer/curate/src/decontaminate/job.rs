//! Finds the documents of an input that hold text of a benchmark.

use super::benchmarks::{BenchmarkIndex, BenchmarkMatch};
use crate::document::DocumentId;
use crate::error::Result;
use crate::parallel::{Input, for_each};
use crate::source::{ReadOptions, SourcePosition, TextSource};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What to look through, and for what.
pub struct DecontaminationJob<'a> {
    /// The texts.
    pub sources: &'a [TextSource],
    /// How documents are extracted.
    pub read: ReadOptions,
    /// The benchmarks.
    pub index: &'a BenchmarkIndex,
    /// A document is contaminated by a piece of which it holds more than this share, 0 to 1.
    pub threshold: f64,
    /// Threads that look.
    pub threads: usize,
}

/// A document that holds text of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContaminatedDocument {
    /// The document.
    pub id: DocumentId,
    /// What it holds most of.
    #[serde(flatten)]
    pub item: ContaminatedItem,
}

/// A benchmark's item that a document holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContaminatedItem {
    /// The benchmark's file.
    pub benchmark: String,
    /// Its line or row, from 1.
    pub item: u64,
    /// The field.
    pub field: String,
    /// Words of the field that lie in a shared n-gram, as a share of all its words.
    pub share: f64,
    /// The longest run of shared words, normalized.
    pub shared: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContaminationReport {
    /// Documents to remove, in the order of the input.
    pub removed: Vec<ContaminatedDocument>,
    /// Items to leave out of an evaluation instead: each with the document that holds most of it.
    pub items: Vec<ContaminatedDocument>,
    /// For each benchmark and field: items that share any n-gram with a document.
    pub overlaps: BTreeMap<String, usize>,
    /// Documents that were read.
    pub documents: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Documents that could not be read, and were passed over.
    pub bad: u64,
}

impl DecontaminationJob<'_> {
    /// Reads every document; calls `watch` with documents and bytes so far.
    ///
    /// # Errors
    /// Sources that cannot be read.
    pub fn run(&self, watch: &mut dyn FnMut(u64, u64)) -> Result<ContaminationReport> {
        let mut report = ContaminationReport::default();
        let mut touched = BTreeSet::new();
        let mut items: BTreeMap<(&str, u64), ContaminatedDocument> = BTreeMap::new();
        let read = ReadOptions { whole_rows: true, ..self.read.clone() };
        let input = Input { sources: self.sources, options: &read, from: SourcePosition::default() };
        for_each(
            input,
            self.threads,
            |document, record| {
                let document = document?;
                Ok::<_, String>((document.id(record.at.index), self.index.matches(&document.text)))
            },
            |result, _, bytes| {
                report.documents += 1;
                report.bytes += bytes as u64;
                watch(report.documents, report.bytes);
                let Ok((id, matches)) = result else {
                    report.bad += 1;
                    return Ok(true);
                };
                touched.extend(matches.iter().map(|found| found.piece));
                let above = matches.iter().filter(|found| found.share > self.threshold);
                for found in above.clone() {
                    let document = ContaminatedDocument { id: id.clone(), item: item(self.index, found) };
                    let piece = &self.index.pieces()[found.piece];
                    let key = (piece.benchmark.as_str(), piece.item);
                    match items.get(&key) {
                        Some(best) if best.item.share >= found.share => {}
                        _ => drop(items.insert(key, document)),
                    }
                }
                if let Some(best) = most(above) {
                    report.removed.push(ContaminatedDocument { id, item: item(self.index, best) });
                }
                Ok(true)
            },
        )?;
        for piece in touched {
            let piece = &self.index.pieces()[piece];
            *report.overlaps.entry(format!("{} {}", piece.benchmark, piece.field)).or_default() += 1;
        }
        report.items = items.into_values().collect();
        Ok(report)
    }
}

/// The match of the largest share, the first of equal ones.
pub(crate) fn most<'m>(matches: impl Iterator<Item = &'m BenchmarkMatch>) -> Option<&'m BenchmarkMatch> {
    matches.fold(None, |best: Option<&BenchmarkMatch>, found| match best {
        Some(best) if best.share >= found.share => Some(best),
        _ => Some(found),
    })
}

/// A match with the names of its piece.
pub(crate) fn item(index: &BenchmarkIndex, found: &BenchmarkMatch) -> ContaminatedItem {
    let piece = &index.pieces()[found.piece];
    ContaminatedItem {
        benchmark: piece.benchmark.clone(),
        item: piece.item,
        field: piece.field.clone(),
        share: found.share,
        shared: found.shared.clone(),
    }
}

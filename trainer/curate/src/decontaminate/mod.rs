//! Decontamination: documents that hold text of a benchmark.
//!
//! Source: the decontamination of Cosmopedia (Hugging Face, 2024): lower case, NFD, runs of `\w`, shared 10-grams, and the
//! matched share of the benchmark's text. Here the share is that of its words that lie in a shared n-gram.

mod benchmarks;
mod job;

pub use benchmarks::{BenchmarkIndex, BenchmarkMatch, BenchmarkPiece};
pub use job::{ContaminatedDocument, ContaminatedItem, ContaminationReport, DecontaminationJob};
pub(crate) use job::{item, most};

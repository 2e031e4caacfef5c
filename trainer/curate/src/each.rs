//! Stages that look at one document at a time.

use crate::document::{CorpusDocument, DocumentId};
use crate::error::Result;
use crate::parallel::{Input, for_each};
use crate::source::{ReadOptions, SourcePosition, TextSource};

/// What is read, and with how many threads.
#[derive(Clone, Copy)]
pub struct EachDocument<'a> {
    /// The texts.
    pub sources: &'a [TextSource],
    /// How documents are extracted.
    pub read: &'a ReadOptions,
    /// Threads that call `work`.
    pub threads: usize,
}

impl EachDocument<'_> {
    /// Calls `work` with every document on some thread, and `take` with what it gave in the order of the input, with the
    /// bytes of the record. A document that cannot be read is its fault with its place.
    ///
    /// # Errors
    /// Sources that cannot be read, and what `take` returns.
    pub fn run<T: Send>(
        &self,
        work: impl Fn(CorpusDocument) -> T + Sync,
        mut take: impl FnMut(DocumentId, std::result::Result<T, String>, u64) -> Result<()>,
    ) -> Result<()> {
        let read = ReadOptions { whole_rows: true, ..self.read.clone() };
        let input = Input { sources: self.sources, options: &read, from: SourcePosition::default() };
        for_each(
            input,
            self.threads,
            |document, record| match document {
                Ok(document) => (document.id(record.at.index), Ok(work(document))),
                Err(why) => (DocumentId::Number(record.at.index), Err(why)),
            },
            |(id, result), _, bytes| take(id, result, bytes as u64).map(|()| true),
        )
    }
}

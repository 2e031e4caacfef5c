//! Documents in the order of the input, worked on by all threads.

use crate::document::CorpusDocument;
use crate::error::{CurateError, Result};
use crate::source::{ReadOptions, Record, RecordReader, SourcePosition, TextSource};
use rayon::prelude::*;
use std::sync::mpsc::sync_channel;

/// Bytes of raw text in a batch, for each thread.
const BATCH_PER_THREAD: usize = 1 << 20;

/// Where documents come from.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) sources: &'a [TextSource],
    pub(crate) options: &'a ReadOptions,
    pub(crate) from: SourcePosition,
}

/// Reads every record, calls `work` for it on one of `threads` threads, and `take` with the results in the order of the
/// input, until it returns false. A document that cannot be read is `Err` with its fault and place.
pub(crate) fn for_each<T: Send>(
    input: Input<'_>,
    threads: usize,
    work: impl Fn(std::result::Result<CorpusDocument, String>, &Record) -> T + Sync,
    mut take: impl FnMut(T, &Record, usize) -> Result<bool>,
) -> Result<()> {
    let threads = threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool =
        pool.map_err(|error| CurateError::Invalid(format!("cannot start {threads} threads: {error}")))?;
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        let reader = scope.spawn(move || -> Result<()> {
            let mut records = RecordReader::new(input.sources, input.options, input.from);
            while let Some(batch) = records.batch(BATCH_PER_THREAD * threads)? {
                if sender.send(batch).is_err() {
                    break;
                }
            }
            Ok(())
        });
        'all: for batch in batches {
            let one = |record: &Record| {
                let kind = input.sources[record.at.source].kind;
                let document = CorpusDocument::parse(input.options, kind, batch.raw(record));
                work(document.map_err(|why| format!("{}: {why}", record.place(input.sources))), record)
            };
            let results: Vec<T> = pool.install(|| batch.records.par_iter().map(one).collect());
            for (result, record) in results.into_iter().zip(&batch.records) {
                if !take(result, record, batch.raw(record).len())? {
                    break 'all;
                }
            }
        }
        let died = || CurateError::Invalid("the thread that reads panicked; see the message above".into());
        reader.join().unwrap_or_else(|_| Err(died()))
    })
}

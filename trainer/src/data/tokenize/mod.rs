//! Text to token sets: on all cores, in constant memory, resumable; the bytes do not depend on the number of threads.
//!
//! One thread reads raw records in order, a pool decodes and encodes their text, and one thread writes the ids in the
//! order of the records. After every whole shard the position is saved (`output_folder.rs`), so that a
//! killed run resumes there.

mod holdout;
mod job;
mod output_folder;

pub use holdout::{Holdout, HoldoutSize};
pub use job::{TokenizeJob, TokenizeProgress, TokenizeSummary};

use crate::data::source::{Record, RecordBatch, RecordReader, SourcePosition};
use crate::data::tokenizer::EncodeScratch;
use crate::error::{Error, Result};
use holdout::HoldoutThreshold;
use output_folder::{OutputFolder, SetWriters};
use rayon::prelude::*;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of raw text in a batch, for each thread; a few batches are in memory at once.
const BATCH_PER_THREAD: usize = 2 << 20;
/// Batches queued between two of the three stages.
const WAITING: usize = 1;

/// The result for one record.
enum Outcome {
    /// Bytes of text, and its ids.
    Ids(usize, Vec<u32>),
    Empty,
    Bad(String),
    /// Written by an earlier run.
    Done,
}

/// Records after encoding.
struct Encoded {
    records: Vec<Record>,
    outcomes: Vec<Outcome>,
}

/// Runs the job, or the rest of it; calls `watch` after every written batch.
///
/// # Errors
/// Sources that cannot be read or have changed, another job's folder, a full disk. The same call resumes from what is
/// on disk.
pub fn run(
    job: &TokenizeJob<'_>,
    watch: &mut (dyn FnMut(&TokenizeProgress) + Send),
) -> Result<TokenizeSummary> {
    let folder = OutputFolder::lock(job)?;
    if let Some(summary) = folder.finished()? {
        return Ok(summary);
    }
    let threshold = HoldoutThreshold::of(job.holdout.as_ref(), job.sources, &job.read)?;
    let writers = folder.open_sets()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads.max(1)).build();
    let pool =
        pool.map_err(|error| Error::Invalid(format!("cannot start {} threads: {error}", job.threads)))?;
    let from = writers.start();
    let positions = writers.positions();
    let resumed = writers.documents();

    let (read, progress, writers) = std::thread::scope(|scope| {
        let (to_pool, from_reader) = sync_channel(WAITING);
        let (to_writer, from_pool) = sync_channel(WAITING);
        let reader = scope.spawn(move || read(job, from, &to_pool));
        let writer = scope.spawn(move || write(job, threshold, writers, &from_pool, watch));
        for batch in from_reader {
            let encoded = pool.install(|| encode(job, threshold, &positions, batch));
            if to_writer.send(encoded).is_err() {
                // The writer has met an error, which it returns.
                break;
            }
        }
        drop(to_writer);
        let died = || Error::Invalid("a thread of tokenize panicked; see the message above".into());
        // The reader stops when nobody listens any more: `from_reader` is gone.
        let read = reader.join().unwrap_or_else(|_| Err(died()));
        writer.join().unwrap_or_else(|_| Err(died())).map(|(progress, writers)| (read, progress, writers))
    })?;
    read?;
    folder.finish(writers, progress, resumed)
}

fn read(job: &TokenizeJob<'_>, from: SourcePosition, out: &SyncSender<RecordBatch>) -> Result<()> {
    let mut records = RecordReader::new(job.sources, &job.read, from);
    while let Some(batch) = records.batch(BATCH_PER_THREAD * job.threads.max(1))? {
        if out.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

fn encode(
    job: &TokenizeJob<'_>,
    threshold: HoldoutThreshold,
    written: &[SourcePosition],
    batch: RecordBatch,
) -> Encoded {
    let one = |scratch: &mut EncodeScratch, record: &Record| {
        if record.at < written[threshold.set_index(record.at.index)] {
            return Outcome::Done;
        }
        let text = match job.read.text(job.sources[record.at.source].kind, batch.raw(record)) {
            Ok(Some(text)) => text,
            Ok(None) => return Outcome::Empty,
            Err(why) => return Outcome::Bad(why),
        };
        let mut ids = Vec::new();
        match job.encoder.encode(&text, scratch, &mut ids) {
            Ok(()) => Outcome::Ids(text.len(), ids),
            Err(why) => Outcome::Bad(why),
        }
    };
    let outcomes = batch.records.par_iter().map_init(EncodeScratch::default, one).collect();
    Encoded { outcomes, records: batch.records }
}

fn write(
    job: &TokenizeJob<'_>,
    threshold: HoldoutThreshold,
    mut writers: SetWriters,
    batches: &Receiver<Encoded>,
    watch: &mut (dyn FnMut(&TokenizeProgress) + Send),
) -> Result<(TokenizeProgress, SetWriters)> {
    let mut progress = TokenizeProgress::default();
    for Encoded { records, outcomes } in batches {
        for (record, outcome) in records.iter().zip(outcomes) {
            progress.source = record.at.source;
            match outcome {
                Outcome::Ids(bytes, ids) => {
                    let place = || record.place(job.sources);
                    writers.push(threshold.set_index(record.at.index), record.at, &ids, place)?;
                    progress.documents += 1;
                    progress.bytes += bytes as u64;
                    progress.tokens += ids.len() as u64 + 1;
                }
                Outcome::Empty => progress.empty += 1,
                Outcome::Bad(why) => {
                    let why = format!("{}: {why}", record.place(job.sources));
                    if !job.skip_bad {
                        return Err(Error::Invalid(format!("{why}; --skip-bad skips such records")));
                    }
                    progress.bad += 1;
                    progress.first_bad.get_or_insert(why);
                }
                Outcome::Done => {}
            }
        }
        watch(&progress);
    }
    Ok((progress, writers))
}

//! Text to token sets: on all cores, in constant memory, resumable; the bytes do not depend on the number of threads.
//!
//! One thread reads raw records in order, a pool decodes and encodes their text, and one thread writes the ids in the
//! order of the records. After every whole shard the position is saved (`output_folder.rs`), so that a
//! killed run resumes there.

mod holdout;
mod output_folder;

pub use holdout::{Holdout, HoldoutSize};

use crate::data::source::{ReadOptions, Record, RecordBatch, RecordReader, SourcePosition, TextSource};
use crate::data::token_set::{Manifest, SetOptions};
use crate::data::tokenizer::{Encoder, Scratch};
use crate::error::{Error, Result};
use holdout::HoldoutThreshold;
use output_folder::{OutputFolder, SetWriters};
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of raw text in a batch, for each thread; a few batches are in memory at once.
const BATCH_PER_THREAD: usize = 2 << 20;
/// Batches queued between two of the three stages.
const WAITING: usize = 1;

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
    let threshold = HoldoutThreshold::of(job)?;
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
    let one = |scratch: &mut Scratch, record: &Record| {
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
    let outcomes = batch.records.par_iter().map_init(Scratch::default, one).collect();
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

impl TokenizeJob<'_> {
    fn set_options(&self) -> SetOptions {
        SetOptions {
            tokenizer: self.encoder.path().to_owned(),
            vocab: self.encoder.vocab(),
            end_of_document: self.end_of_document,
            shard_tokens: self.shard_tokens,
        }
    }
}

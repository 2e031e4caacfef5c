//! Text to token sets: on all cores, in constant memory, resumable, and with the same bytes whatever the threads.
//!
//! One thread reads raw records in order, a pool takes the text out of them and encodes it, and one thread writes the
//! ids in the order of the records. After every whole shard the position behind it is kept (`state.rs`), so that a
//! killed run goes on there.

mod holdout;
mod state;

pub use holdout::{Holdout, Share};

use crate::data::source::{Filter, ReadOptions, Record, RecordBatch, Records, SourcePosition, TextSource};
use crate::data::token_set::{Manifest, SetOptions};
use crate::data::tokenizer::{Encoder, Scratch};
use crate::error::{Error, Result};
use holdout::Threshold;
use rayon::prelude::*;
use state::{Destinations, Workplace};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of raw text in a batch, for each thread; a few batches are in memory at once.
const BATCH_PER_THREAD: usize = 2 << 20;
/// Batches that wait between two of the three stages.
const WAITING: usize = 1;

/// What to tokenize, and how.
pub struct Job<'a> {
    /// The texts, in order.
    pub sources: &'a [TextSource],
    /// How documents are taken out of them.
    pub read: ReadOptions,
    /// Pass over records that cannot be read, and count them.
    pub skip_bad: bool,
    /// Which documents stay.
    pub filter: &'a dyn Filter,
    /// What makes ids of them.
    pub encoder: &'a Encoder,
    /// The id behind every document.
    pub end_of_document: u32,
    /// Ids at which a shard is closed.
    pub shard_tokens: u64,
    /// Threads that encode.
    pub threads: usize,
    /// Where the token set goes.
    pub output: PathBuf,
    /// Documents that go to a set of their own.
    pub holdout: Option<Holdout>,
}

/// What a run has done so far; a resumed one counts from its own beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizeProgress {
    /// Number of the source that is being read.
    pub source: usize,
    /// Documents written.
    pub documents: u64,
    /// Their bytes as text.
    pub bytes: u64,
    /// Their ids.
    pub tokens: u64,
    /// Records without text.
    pub empty: u64,
    /// Documents that the filter dropped.
    pub filtered: u64,
    /// Records that could not be read, and the first one's fault.
    pub bad: u64,
    /// The first one's place and fault.
    pub first_bad: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizeSummary {
    /// The token set.
    pub set: Manifest,
    /// The held-out one.
    pub holdout: Option<Manifest>,
    /// What this run did; nothing where the set was there already.
    pub progress: TokenizeProgress,
    /// Documents that earlier runs had written.
    pub resumed: u64,
}

/// What became of a record.
enum Outcome {
    /// Bytes of text, and its ids.
    Ids(usize, Vec<u32>),
    Empty,
    Filtered,
    Bad(String),
    /// On the disk already.
    Done,
}

/// Records that went through the pool.
struct Encoded {
    records: Vec<Record>,
    outcomes: Vec<Outcome>,
}

/// Does the job, or the rest of it; `watch` is told of every batch that is written.
///
/// # Errors
/// Sources that cannot be read or have changed, another job's folder, a full disk. What is on the disk stays, and the
/// same call goes on with it.
pub fn run(job: &Job<'_>, watch: &mut (dyn FnMut(&TokenizeProgress) + Send)) -> Result<TokenizeSummary> {
    let workplace = Workplace::enter(job)?;
    if let Some(summary) = workplace.finished()? {
        return Ok(summary);
    }
    let threshold = Threshold::of(job)?;
    let destinations = workplace.destinations()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads.max(1)).build();
    let pool =
        pool.map_err(|error| Error::Invalid(format!("no {} threads can be started: {error}", job.threads)))?;
    let from = destinations.start();
    let positions = destinations.positions();
    let resumed = destinations.documents();

    let (read, progress, destinations) = std::thread::scope(|scope| {
        let (to_pool, from_reader) = sync_channel(WAITING);
        let (to_writer, from_pool) = sync_channel(WAITING);
        let reader = scope.spawn(move || read(job, from, &to_pool));
        let writer = scope.spawn(move || write(job, threshold, destinations, &from_pool, watch));
        for batch in from_reader {
            let encoded = pool.install(|| encode(job, threshold, &positions, batch));
            if to_writer.send(encoded).is_err() {
                // The writer has met an error, which it returns.
                break;
            }
        }
        drop(to_writer);
        let died = || Error::Invalid("a thread of tokenize died; its message is above".into());
        // The reader stops when nobody listens any more: `from_reader` is gone.
        let read = reader.join().unwrap_or_else(|_| Err(died()));
        writer
            .join()
            .unwrap_or_else(|_| Err(died()))
            .map(|(progress, destinations)| (read, progress, destinations))
    })?;
    read?;
    workplace.finish(destinations, progress, resumed)
}

fn read(job: &Job<'_>, from: SourcePosition, out: &SyncSender<RecordBatch>) -> Result<()> {
    let mut records = Records::new(job.sources, &job.read, from);
    while let Some(batch) = records.batch(BATCH_PER_THREAD * job.threads.max(1))? {
        if out.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

fn encode(job: &Job<'_>, threshold: Threshold, written: &[SourcePosition], batch: RecordBatch) -> Encoded {
    let one = |scratch: &mut Scratch, record: &Record| {
        if record.at < written[threshold.destination(record.at.index)] {
            return Outcome::Done;
        }
        let text = match job.read.text(job.sources[record.at.source].kind, batch.raw(record)) {
            Ok(Some(text)) => text,
            Ok(None) => return Outcome::Empty,
            Err(why) => return Outcome::Bad(why),
        };
        if !job.filter.keeps(record, &text) {
            return Outcome::Filtered;
        }
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
    job: &Job<'_>,
    threshold: Threshold,
    mut destinations: Destinations,
    batches: &Receiver<Encoded>,
    watch: &mut (dyn FnMut(&TokenizeProgress) + Send),
) -> Result<(TokenizeProgress, Destinations)> {
    let mut progress = TokenizeProgress::default();
    for Encoded { records, outcomes } in batches {
        for (record, outcome) in records.iter().zip(outcomes) {
            progress.source = record.at.source;
            match outcome {
                Outcome::Ids(bytes, ids) => {
                    let place = || record.place(job.sources);
                    destinations.push(threshold.destination(record.at.index), record.at, &ids, place)?;
                    progress.documents += 1;
                    progress.bytes += bytes as u64;
                    progress.tokens += ids.len() as u64 + 1;
                }
                Outcome::Empty => progress.empty += 1,
                Outcome::Filtered => progress.filtered += 1,
                Outcome::Bad(why) => {
                    let why = format!("{}: {why}", record.place(job.sources));
                    if !job.skip_bad {
                        return Err(Error::Invalid(format!("{why}; --skip-bad passes over such records")));
                    }
                    progress.bad += 1;
                    progress.first_bad.get_or_insert(why);
                }
                Outcome::Done => {}
            }
        }
        watch(&progress);
    }
    Ok((progress, destinations))
}

impl Job<'_> {
    fn set_options(&self) -> SetOptions {
        SetOptions {
            tokenizer: self.encoder.path().to_owned(),
            vocab: self.encoder.vocab(),
            end_of_document: self.end_of_document,
            shard_tokens: self.shard_tokens,
        }
    }
}

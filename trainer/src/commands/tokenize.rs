//! `thimble-train tokenize`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thimble_trainer::data::source::{ReadOptions, TextSource};
use thimble_trainer::data::token_set::{DEFAULT_SHARD_TOKENS, Manifest};
use thimble_trainer::data::tokenize::{
    Holdout, HoldoutSize, TokenizeJob, TokenizeProgress, TokenizeSummary, run,
};
use thimble_trainer::data::tokenizer::Encoder;
use thimble_trainer::error::Result;
use thimble_trainer::plan::little_held_out;

/// Time between two lines if stderr is not a terminal.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// Turn text into a token set.
///
/// The same sources and options give the same bytes on any number of threads. A run that was killed resumes after
/// its last complete shard when it is started again.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Files (.txt, .jsonl, plain, .gz or .zst; .parquet), folders, or `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.
    #[arg(required = true)]
    sources: Vec<String>,
    #[command(flatten)]
    reading: ReadFlags,
    /// tokenizer.json, or the folder that holds it.
    #[arg(long)]
    tokenizer: PathBuf,
    /// Folder for the token set.
    #[arg(short, long)]
    output: PathBuf,
    /// Start a new shard after the document that reaches this many tokens.
    #[arg(long, default_value_t = DEFAULT_SHARD_TOKENS, value_parser = clap::value_parser!(u64).range(1..))]
    shard_tokens: u64,
    /// Threads that encode [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Documents to hold out for validation: a fraction such as 0.01, or a count.
    #[arg(long, requires = "holdout_output")]
    holdout: Option<HoldoutSize>,
    /// Folder for the token set of the held-out documents.
    #[arg(long, requires = "holdout")]
    holdout_output: Option<PathBuf>,
    /// Seed that selects the held-out documents.
    #[arg(long, default_value_t = 0, requires = "holdout")]
    holdout_seed: u64,
    /// Token to append to each document [default: <|endoftext|>, or else the tokenizer's eos_token].
    #[arg(long)]
    end: Option<String>,
    /// Skip records that cannot be read, and count them.
    #[arg(long)]
    skip_bad: bool,
    /// Encode with the tokenizers crate even where Thimble's own tokenizer gives the same ids faster.
    #[arg(long)]
    tokenizers_crate: bool,
}

/// How documents are extracted from the sources.
#[derive(Debug, clap::Args)]
pub(super) struct ReadFlags {
    /// JSON field or parquet column with the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// Treat each line of a .txt file as a document.
    #[arg(long)]
    lines: bool,
}

impl ReadFlags {
    pub(super) fn field(&self) -> &str {
        &self.field
    }

    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions { field: self.field.clone(), lines: self.lines, ..ReadOptions::default() }
    }
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let read = self.reading.options();
        let sources = TextSource::resolve(&self.sources, &read)?;
        let mut encoder = Encoder::open(&self.tokenizer)?;
        if self.tokenizers_crate {
            encoder = encoder.without_tables();
        } else if let Some(why) = encoder.slow_because() {
            eprintln!("the tokenizers crate encodes, which is slower than Thimble's own tokenizer ({why})");
        }
        let holdout = self.holdout.zip(self.holdout_output);
        let job = TokenizeJob {
            sources: &sources,
            read,
            skip_bad: self.skip_bad,
            end_of_document: encoder.end_of_document(self.end.as_deref())?,
            encoder: &encoder,
            shard_tokens: self.shard_tokens,
            threads: super::shared::threads(self.threads),
            output: self.output,
            holdout: holdout.map(|(share, output)| Holdout { share, seed: self.holdout_seed, output }),
        };
        let mut display = Display::new(&sources);
        let summary = run(&job, &mut |progress| display.show(progress))?;
        display.bar.finish_and_clear();
        report(&summary, &job, display.begin.elapsed());
        Ok(())
    }
}

/// A live line on a terminal, occasional lines elsewhere.
struct Display<'s> {
    sources: &'s [TextSource],
    begin: Instant,
    bar: ProgressBar,
    last_line: Option<Instant>,
}

impl<'s> Display<'s> {
    fn new(sources: &'s [TextSource]) -> Display<'s> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Display { sources, begin: now, bar, last_line: (!std::io::stderr().is_terminal()).then_some(now) }
    }

    fn show(&mut self, progress: &TokenizeProgress) {
        let of = self.sources.len();
        let line = format!("file {} of {of}, {}", progress.source + 1, speed(progress, self.begin.elapsed()));
        match &mut self.last_line {
            Some(last) if last.elapsed() >= LINES_EVERY => {
                eprintln!("{line}");
                *last = Instant::now();
            }
            Some(_) => {}
            None => self.bar.set_message(line),
        }
    }
}

fn speed(progress: &TokenizeProgress, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(1e-3);
    let TokenizeProgress { documents, tokens, bytes, .. } = progress;
    format!(
        "{documents} documents, {:.1} M tokens, {:.2} M tokens/s, {:.1} MB/s",
        *tokens as f64 / 1e6,
        *tokens as f64 / 1e6 / seconds,
        *bytes as f64 / 1e6 / seconds
    )
}

fn report(summary: &TokenizeSummary, job: &TokenizeJob<'_>, time: Duration) {
    let TokenizeSummary { set, holdout, progress, resumed } = summary;
    if progress.documents == 0 && *resumed > 0 {
        eprintln!("the token set was complete already");
    } else {
        eprintln!("{} in {:.1} s on {} threads", speed(progress, time), time.as_secs_f64(), job.threads);
    }
    if *resumed > 0 && progress.documents > 0 {
        eprintln!("resumed after {resumed} documents of an earlier run");
    }
    if progress.empty > 0 {
        eprintln!("warning: skipped {} records without text (empty or null)", progress.empty);
    }
    if let Some(first) = &progress.first_bad {
        eprintln!("skipped {} bad records; the first: {first}", progress.bad);
    }
    print(set, &job.output);
    if let (Some(set), Some(holdout)) = (holdout, &job.holdout) {
        print(set, &holdout.output);
        if set.documents == 0 {
            eprintln!(
                "warning: no document was held out; remove both folders and raise --holdout, or use --lines if each line of \
                 your .txt files is a document"
            );
        } else if let Some(few) = little_held_out(set.tokens) {
            eprintln!("warning: {few}; remove both folders and raise --holdout");
        }
    }
}

fn print(set: &Manifest, folder: &Path) {
    println!(
        "{}: {} tokens in {} documents, {} shards, vocabulary {}, {} bytes per id",
        folder.display(),
        set.tokens,
        set.documents,
        set.shards.len(),
        set.vocab,
        set.bytes_per_id
    );
}

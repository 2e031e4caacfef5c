//! `thimble-train curate decontaminate`.

use super::display::Display;
use super::input::InputFlags;
use thimble_curate::decontaminate::{BenchmarkIndex, DecontaminationJob};
use thimble_trainer::error::{Error, Result};

/// Find documents that hold text of a benchmark.
///
/// A document is contaminated if n-grams that it shares with a string of an item (a question, a passage, an answer)
/// cover more than a share of that string's words. Words are runs of letters, digits and underscores, in lower case.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    input: InputFlags,
    /// Files or folders with the items, a JSON object for each: every string in it counts. Give it once for each.
    #[arg(long = "benchmark", required = true, value_name = "FILES")]
    benchmarks: Vec<String>,
    /// Words of an n-gram.
    #[arg(long, default_value_t = 10)]
    ngram: usize,
    /// Share of a string that a document may hold.
    #[arg(long, default_value_t = 0.5)]
    threshold: f64,
    /// Print documents, items and overlaps as JSON.
    #[arg(long)]
    json: bool,
}

impl Flags {
    pub(super) fn run(self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.threshold) {
            let found = self.threshold;
            return Err(Error::Usage(format!("--threshold: expected a share from 0 to 1, found {found}")));
        }
        let index = BenchmarkIndex::read(&self.benchmarks, self.ngram)?;
        eprintln!(
            "{} strings of the benchmarks; {} more have fewer than {} words, and match nothing",
            index.pieces().len(),
            index.short(),
            self.ngram
        );
        let (sources, read) = self.input.resolve()?;
        let threads = self.input.threads();
        let job =
            DecontaminationJob { sources: &sources, read, index: &index, threshold: self.threshold, threads };
        let mut display = Display::new(&sources, 1);
        let report = job.run(&mut |documents, bytes| display.show(documents, bytes))?;
        display.finish(report.documents, report.bytes);
        if report.bad > 0 {
            eprintln!("warning: {} documents cannot be read, and were passed over", report.bad);
        }
        if self.json {
            println!(
                "{}",
                serde_json::to_string(&report).map_err(|error| Error::Invalid(error.to_string()))?
            );
            return Ok(());
        }
        for (field, items) in &report.overlaps {
            println!("{field}: {items} share {} words with a document", self.ngram);
        }
        println!(
            "{} of {} documents are contaminated, by {} items (share above {})",
            report.removed.len(),
            report.documents,
            report.items.len(),
            self.threshold
        );
        Ok(())
    }
}

//! `thimble-train curate dedup`.

use super::display::Display;
use super::input::InputFlags;
use thimble_curate::dedup::{DedupJob, DedupMethod, MinHash, MinHashSettings};
use thimble_trainer::error::{Error, Result};

/// Most clusters that are printed for people; --json prints all.
const SHOWN: usize = 10;

/// Find documents that are copies of each other.
///
/// MinHash with locality-sensitive hashing finds near-copies: two documents are duplicates if all hashes of one bucket are
/// equal. Of each cluster, the document with the lowest id stays. Words, signatures and clusters are those of datatrove.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    input: InputFlags,
    /// Sizes to start from: 5-grams with 14 buckets of 8 hashes, or with one bucket of 10.
    #[arg(long, value_enum, default_value_t = Preset::Fineweb)]
    preset: Preset,
    /// Words of a shingle [default: the preset's].
    #[arg(long)]
    ngram: Option<usize>,
    /// Buckets; more find more pairs [default: the preset's].
    #[arg(long)]
    buckets: Option<usize>,
    /// Hashes of a bucket; more find only closer copies [default: the preset's].
    #[arg(long)]
    rows: Option<usize>,
    /// Find only documents that are equal after normalization.
    #[arg(long, conflicts_with_all = ["preset", "ngram", "buckets", "rows"])]
    exact: bool,
    /// Print `{"removed": [ids], "clusters": [[ids]]}`. An id is a document's field `id`, or its number from 0.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Preset {
    Fineweb,
    Finemath,
}

impl Flags {
    fn settings(&self) -> MinHashSettings {
        let preset = match self.preset {
            Preset::Fineweb => MinHashSettings::FINEWEB,
            Preset::Finemath => MinHashSettings::FINEMATH,
        };
        MinHashSettings {
            ngram: self.ngram.unwrap_or(preset.ngram),
            buckets: self.buckets.unwrap_or(preset.buckets),
            rows: self.rows.unwrap_or(preset.rows),
        }
    }

    pub(super) fn run(self) -> Result<()> {
        let (sources, read) = self.input.resolve()?;
        let method = match self.exact {
            true => DedupMethod::Exact,
            false => DedupMethod::MinHash(MinHash::new(self.settings())?),
        };
        let job = DedupJob {
            sources: &sources,
            read,
            method,
            threads: self.input.threads(),
            folder: std::env::temp_dir(),
        };
        let mut display = Display::new(&sources, 1);
        let (found, progress) = job.run(&mut |progress| display.show(progress.documents, progress.bytes))?;
        display.finish(progress.documents, progress.bytes);
        if let Some(first) = &progress.first_bad {
            eprintln!("warning: {} documents cannot be read, and are kept; the first: {first}", progress.bad);
        }
        if self.json {
            let text = serde_json::to_string(&found).map_err(|error| Error::Invalid(error.to_string()))?;
            println!("{text}");
            return Ok(());
        }
        println!(
            "{} of {} documents are copies, in {} clusters",
            found.removed.len(),
            progress.documents,
            found.clusters.len()
        );
        let mut largest: Vec<_> = found.clusters.iter().collect();
        largest.sort_by_key(|cluster| std::cmp::Reverse(cluster.len()));
        for cluster in largest.into_iter().take(SHOWN) {
            let ids = serde_json::to_string(cluster).map_err(|error| Error::Invalid(error.to_string()))?;
            println!("{} documents: {}", cluster.len(), ids.chars().take(200).collect::<String>());
        }
        Ok(())
    }
}

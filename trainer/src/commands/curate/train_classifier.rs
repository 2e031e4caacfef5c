//! `thimble-train curate train-classifier`.

use super::input::InputFlags;
use serde_json::Value;
use std::path::PathBuf;
use thimble_curate::document::CorpusDocument;
use thimble_curate::each::EachDocument;
use thimble_curate::error::CurateError;
use thimble_curate::fasttext::{ClassifierOptions, Example, FastText, LABEL_PREFIX, Scratch, train};
use thimble_curate::source::{ReadOptions, TextSource};
use thimble_trainer::error::{Error, Result};

/// Train a fastText classifier on labelled documents.
///
/// Labels stand in a field of each document, or in its text as `__label__NAME`. One thread trains, so the same documents
/// and flags give the same file; `curate classify` and the C++ library read it.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    input: InputFlags,
    /// The file to write (.bin).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// JSON field or parquet column with the label: a text, a number, or a list of them.
    #[arg(long, default_value = "label", value_name = "NAME")]
    label_field: String,
    /// Labelled documents that are not trained on, to state the accuracy.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    held_out: Vec<String>,
    /// Passes over the documents.
    #[arg(long, default_value_t = ClassifierOptions::default().epochs)]
    epochs: usize,
    /// The learning rate at the beginning.
    #[arg(long, default_value_t = ClassifierOptions::default().learning_rate)]
    lr: f32,
    /// Values of a vector.
    #[arg(long, default_value_t = ClassifierOptions::default().dimensions)]
    dim: usize,
    /// Words of the longest word n-gram; DCLM has 2.
    #[arg(long, default_value_t = ClassifierOptions::default().word_ngrams)]
    word_ngrams: usize,
    /// Characters of the shortest character n-gram.
    #[arg(long, default_value_t = ClassifierOptions::default().shortest)]
    minn: usize,
    /// Characters of the longest character n-gram; 0 for none.
    #[arg(long, default_value_t = ClassifierOptions::default().longest)]
    maxn: usize,
    /// Rows that the hashes of n-grams share.
    #[arg(long, default_value_t = ClassifierOptions::default().buckets)]
    buckets: usize,
    /// Fewest occurrences of a word.
    #[arg(long, default_value_t = ClassifierOptions::default().fewest)]
    min_count: usize,
    /// Seed of the rows that words begin with.
    #[arg(long, default_value_t = ClassifierOptions::default().seed)]
    seed: u32,
}

impl Flags {
    pub(super) fn run(self) -> Result<()> {
        let (sources, read) = self.input.resolve()?;
        let options = ClassifierOptions {
            dimensions: self.dim,
            epochs: self.epochs,
            learning_rate: self.lr,
            word_ngrams: self.word_ngrams,
            shortest: self.minn,
            longest: self.maxn,
            buckets: self.buckets,
            fewest: self.min_count,
            seed: self.seed,
        };
        let threads = self.input.threads();
        let examples = self.examples(&sources, &read, threads)?;
        let held_out = match self.held_out.is_empty() {
            true => Vec::new(),
            false => self.examples(&TextSource::resolve(&self.held_out, &read)?, &read, threads)?,
        };
        let model =
            train(&examples, &options, |done, loss| eprintln!("{:3.0}% loss {loss:.4}", done * 100.0))?;
        thimble_files::write_with(&self.output, |mut file| model.write(&mut file))
            .map_err(Error::file(&self.output, "write"))?;
        let (words, labels) = model.counts();
        let path = self.output.display();
        eprintln!("wrote {path}: {} documents, {words} words, {labels} labels", examples.len());
        if !held_out.is_empty() {
            drop(model);
            let (right, all) = accuracy(&FastText::open(&self.output)?, &held_out)?;
            println!(
                "{right} of {all} held-out documents have their label first: {:.4}",
                right as f64 / all as f64
            );
        }
        Ok(())
    }

    fn examples(&self, sources: &[TextSource], read: &ReadOptions, threads: usize) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        EachDocument { sources, read, threads }.run(
            |document| self.example(document),
            |id, example, _| {
                let example = example.and_then(|example| example);
                examples
                    .push(example.map_err(|why| CurateError::Invalid(format!("document {id:?}: {why}")))?);
                Ok(())
            },
        )?;
        Ok(examples)
    }

    fn example(&self, mut document: CorpusDocument) -> std::result::Result<Example, String> {
        let name = |value: &Value| match value {
            Value::String(label) => Ok(label.strip_prefix(LABEL_PREFIX).unwrap_or(label).to_owned()),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            other => Err(format!("expected a text or a number in {:?}, found {other}", self.label_field)),
        };
        let labels = match document.fields.shift_remove(&self.label_field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(labels)) => labels.iter().map(name).collect::<std::result::Result<_, _>>()?,
            Some(label) => vec![name(&label)?],
        };
        Ok(Example { labels, text: document.text })
    }
}

/// How many examples have one of their labels as the most probable one; of those that have labels.
fn accuracy(model: &FastText, examples: &[Example]) -> Result<(usize, usize)> {
    let (mut right, mut all, mut scratch) = (0, 0, Scratch::default());
    for example in examples {
        let mut labels: Vec<String> =
            example.labels.iter().map(|label| format!("{LABEL_PREFIX}{label}")).collect();
        let inside = example.text.split_whitespace().filter(|word| word.starts_with(LABEL_PREFIX));
        labels.extend(inside.map(str::to_owned));
        if labels.is_empty() {
            continue;
        }
        all += 1;
        let first = model.predict(&example.text, &mut scratch)?.first();
        right += usize::from(first.is_some_and(|first| labels.contains(&model.labels()[first.label])));
    }
    Ok((right, all))
}

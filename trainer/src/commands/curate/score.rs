//! `thimble-train curate score`.

use super::display::Display;
use super::input::InputFlags;
use super::json_lines::JsonLines;
use clap::Subcommand;
use serde_json::Value;
use std::path::{Path, PathBuf};
use thimble_curate::document::CorpusDocument;
use thimble_curate::each::EachDocument;
use thimble_curate::error::CurateError;
use thimble_curate::score::{EmbeddingSource, ScoreEvaluation, ScoreHead, fit, rounded};
use thimble_curate::source::TextSource;
use thimble_trainer::error::{Error, Result};
use thimble_trainer::scoring::{Scorer, ScoringModel, TEXT_SLOT};

/// The rubric that `annotate` asks with.
const RUBRIC: &str = include_str!("rubric.txt");

/// Score documents from 0 to 5, as FineWeb-Edu does for educational value.
///
/// The score is a regression on embeddings: the mean of the hidden states of a .thimble model.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Annotate(Annotate),
    Train(Train),
    Apply(Apply),
}

/// Let a model give each document a digit from 0 to 5, by a rubric.
///
/// Prints the documents as JSON Lines with `score`, the most probable digit, and `score_mean`, their mean.
#[derive(Debug, clap::Args)]
struct Annotate {
    #[command(flatten)]
    input: InputFlags,
    /// A .thimble model with a chat template.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A file with the rubric; {text} stands for the document [default: a rubric of educational value].
    #[arg(long, value_name = "FILE")]
    rubric: Option<PathBuf>,
    /// Tokens of a document that are read.
    #[arg(long, default_value_t = 512, value_parser = tokens)]
    tokens: usize,
}

/// Fit a head to labelled documents.
#[derive(Debug, clap::Args)]
struct Train {
    #[command(flatten)]
    input: InputFlags,
    /// The .thimble model that embeds.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The file to write (.json).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// JSON field or parquet column with the label, a number from 0 to 5.
    #[arg(long, default_value = "score", value_name = "NAME")]
    label_field: String,
    /// Labelled documents that are not trained on: prints the table of labels and scores, and F1 at 3.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    held_out: Vec<String>,
    /// Tokens of a document that are embedded.
    #[arg(long, default_value_t = 512, value_parser = tokens)]
    tokens: usize,
}

/// Score documents with a head.
#[derive(Debug, clap::Args)]
struct Apply {
    #[command(flatten)]
    input: InputFlags,
    /// The .thimble model that the head was trained with.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The head.
    #[arg(long, value_name = "FILE")]
    head: PathBuf,
    /// Least score of a document that is kept, before rounding to a whole one.
    #[arg(long, default_value_t = 2.5, allow_negative_numbers = true)]
    threshold: f64,
    /// Print `{"id", "score", "int_score", "keep"}` for each document; `error` for one that cannot be read.
    #[arg(long)]
    json: bool,
}

fn tokens(text: &str) -> std::result::Result<usize, String> {
    let parsed = text.parse().ok().filter(|tokens| (1..=1 << 20).contains(tokens));
    parsed.ok_or_else(|| "expected a number of tokens from 1 to 1048576".to_owned())
}

impl Flags {
    pub(super) fn run(self) -> Result<()> {
        match self.action {
            Action::Annotate(annotate) => annotate.run(),
            Action::Train(train) => train.run(),
            Action::Apply(apply) => apply.run(),
        }
    }
}

/// Calls `take` with every document and its number; documents that cannot be read are its fault with its place.
fn each(
    input: &InputFlags,
    names: Option<&[String]>,
    mut take: impl FnMut(Value, std::result::Result<CorpusDocument, String>) -> Result<()>,
) -> Result<()> {
    let (sources, read) = input.resolve()?;
    let sources = match names {
        Some(names) => TextSource::resolve(names, &read)?,
        None => sources,
    };
    let mut display = Display::new(&sources, 1);
    let (mut documents, mut size) = (0, 0);
    // The model has the other threads.
    EachDocument { sources: &sources, read: &read, threads: 1 }.run(
        |document| document,
        |id, document, bytes| {
            let id = serde_json::to_value(&id).map_err(|error| CurateError::Invalid(error.to_string()))?;
            take(id, document).map_err(|error| CurateError::Invalid(error.to_string()))?;
            (documents, size) = (documents + 1, size + bytes);
            display.show(documents, size);
            Ok(())
        },
    )?;
    display.finish(documents, size);
    Ok(())
}

impl Annotate {
    fn run(self) -> Result<()> {
        let rubric = match &self.rubric {
            Some(path) => std::fs::read_to_string(path).map_err(Error::file(path, "read"))?,
            None => RUBRIC.to_owned(),
        };
        if !rubric.contains(TEXT_SLOT) {
            return Err(Error::Usage(format!(
                "expected {TEXT_SLOT} in the rubric, found none; say where the text goes"
            )));
        }
        // A byte is a token at most; templates add a few.
        let model =
            ScoringModel::open(&self.model, self.input.threads(), self.tokens, rubric.len() / 2 + 128)?;
        let mut lines = JsonLines::new();
        let field = self.input.field().to_owned();
        model.run(|scorer| {
            each(&self.input, None, |_, document| {
                let mut document = document.map_err(Error::Invalid)?;
                let found = scorer.annotate(&rubric, &document.text)?;
                document.fields.insert("score".to_owned(), found.score.into());
                document.fields.insert("score_mean".to_owned(), found.mean.into());
                let text = std::mem::take(&mut document.text);
                document.fields.insert(field.clone(), Value::String(text));
                lines.write(&document.fields)
            })
        })?;
        lines.finish()
    }
}

impl Train {
    fn run(self) -> Result<()> {
        let model = ScoringModel::open(&self.model, self.input.threads(), self.tokens, 0)?;
        let (embeddings, labels) = model.run(|scorer| self.labelled(scorer, None))?;
        let fitted = fit(&embeddings, &labels)?;
        eprintln!("ridge {}, mean squared error in cross-validation {:.4}", fitted.ridge, fitted.error);
        let source = EmbeddingSource { model: model.identity()?, tokens: self.tokens };
        let head = ScoreHead::new(source, fitted, labels.len());
        thimble_files::write(&self.output, head.to_json()?.as_bytes())
            .map_err(Error::file(&self.output, "write"))?;
        eprintln!("wrote {}: {} documents", self.output.display(), labels.len());
        if !self.held_out.is_empty() {
            let (embeddings, labels) = model.run(|scorer| self.labelled(scorer, Some(&self.held_out)))?;
            let mut evaluation = ScoreEvaluation::default();
            for (embedding, label) in embeddings.iter().zip(labels) {
                evaluation.add(label, head.score(embedding).unwrap_or(f64::NAN));
            }
            println!("{evaluation}");
        }
        Ok(())
    }

    fn labelled(
        &self,
        scorer: &mut Scorer<'_, '_>,
        names: Option<&[String]>,
    ) -> Result<(Vec<Vec<f32>>, Vec<f64>)> {
        let (mut embeddings, mut labels) = (Vec::new(), Vec::new());
        each(&self.input, names, |id, document| {
            let document = document.map_err(Error::Invalid)?;
            let found = document.fields.get(&self.label_field);
            let label = found.and_then(Value::as_f64).filter(|label| (0.0..=5.0).contains(label));
            let label = label.ok_or_else(|| {
                let found = found.map_or("none".to_owned(), Value::to_string);
                let field = &self.label_field;
                Error::Invalid(format!(
                    "document {id}: expected a number from 0 to 5 in {field:?}, found {found}"
                ))
            })?;
            embeddings.push(scorer.embedding(&document.text)?);
            labels.push(label);
            Ok(())
        })?;
        Ok((embeddings, labels))
    }
}

impl Apply {
    fn run(self) -> Result<()> {
        let head = ScoreHead::open(&self.head)?;
        let model = ScoringModel::open(&self.model, self.input.threads(), head.embedding.tokens, 0)?;
        head.check(&model.identity()?)?;
        let (mut counts, mut kept, mut bad) = ([0u64; 6], 0u64, 0u64);
        let mut lines = JsonLines::new();
        model.run(|scorer| {
            each(&self.input, None, |id, document| {
                let line = match document {
                    Ok(document) => {
                        let score = score(&head, &self.head, scorer, &document.text)?;
                        let keep = score >= self.threshold;
                        counts[rounded(score)] += 1;
                        kept += u64::from(keep);
                        serde_json::json!({"id": id, "score": score, "int_score": rounded(score), "keep": keep})
                    }
                    Err(why) => {
                        bad += 1;
                        serde_json::json!({"id": id, "error": why})
                    }
                };
                if self.json { lines.write(&line) } else { Ok(()) }
            })
        })?;
        lines.finish()?;
        if bad > 0 {
            eprintln!("warning: {bad} documents cannot be read; --json says which");
        }
        if !self.json {
            counts.iter().enumerate().for_each(|(score, count)| println!("{count:>10} with score {score}"));
            println!("{kept} of {} documents are kept", counts.iter().sum::<u64>());
        }
        Ok(())
    }
}

fn score(head: &ScoreHead, path: &Path, scorer: &mut Scorer<'_, '_>, text: &str) -> Result<f64> {
    let embedding = scorer.embedding(text)?;
    head.score(&embedding).ok_or_else(|| {
        let path = path.display();
        Error::Invalid(format!(
            "{path}: expected {} weights, found another number; train it again",
            embedding.len()
        ))
    })
}

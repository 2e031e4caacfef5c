//! `thimble-train curate classify`.

use super::display::Display;
use super::input::InputFlags;
use super::json_lines::JsonLines;
use serde::Serialize;
use std::path::PathBuf;
use thimble_curate::document::DocumentId;
use thimble_curate::each::EachDocument;
use thimble_curate::error::CurateError;
use thimble_curate::fasttext::{FastText, LabelPrediction, Preset, Scratch};
use thimble_trainer::error::Result;

/// Say which labels a fastText classifier gives each document.
///
/// Models are files of the C++ library (.bin, .ftz) or of `train-classifier`; probabilities equal the library's. Line
/// ends count as spaces.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    input: InputFlags,
    /// The classifier.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Decide which documents are kept: language (more than 0.65, as FineWeb), or dclm (at least 0.018112 for hq).
    #[arg(long, value_enum)]
    preset: Option<PresetName>,
    /// The language to keep.
    #[arg(long, default_value = "en", requires = "preset", value_name = "CODE")]
    language: String,
    /// Most labels of a document [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Print `{"id", "labels", "probabilities"}` for each document, most probable first; `keep` with a preset; `error`
    /// for a document that cannot be read. An id is a document's field `id`, or its number from 0.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PresetName {
    Language,
    Dclm,
}

#[derive(Serialize)]
struct Line<'a> {
    id: DocumentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    labels: Vec<&'a str>,
    probabilities: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<bool>,
}

impl Flags {
    pub(super) fn run(self) -> Result<()> {
        let (sources, read) = self.input.resolve()?;
        let model = FastText::open(&self.model)?;
        let preset = self.preset.map(|name| match name {
            PresetName::Language => Preset::Language(self.language.clone()),
            PresetName::Dclm => Preset::Dclm,
        });
        let decides = match preset {
            Some(preset) => Some((preset.label_in(&model)?, preset)),
            None => None,
        };
        let top = self.top.map_or(usize::MAX, |top| top as usize);
        let work = |text: &str| -> std::result::Result<(Vec<LabelPrediction>, Option<bool>), CurateError> {
            let mut scratch = Scratch::default();
            let found = model.predict(text, &mut scratch)?;
            let keep = decides.as_ref().map(|(label, preset)| preset.keeps(*label, found));
            Ok((found[..found.len().min(top)].to_vec(), keep))
        };
        let each = EachDocument { sources: &sources, read: &read, threads: self.input.threads() };
        let mut display = Display::new(&sources, 1);
        let mut lines = JsonLines::new();
        let mut summary = Summary { first: vec![0; model.labels().len()], ..Summary::default() };
        each.run(
            |document| work(&document.text),
            |id, result, bytes| {
                summary.documents += 1;
                summary.bytes += bytes;
                let line = match result {
                    Ok(found) => {
                        let (predictions, keep) = found?;
                        summary.count(&predictions, keep);
                        let labels = predictions.iter().map(|one| model.labels()[one.label].as_str());
                        Line {
                            id,
                            error: None,
                            labels: labels.collect(),
                            probabilities: predictions.iter().map(|one| one.probability).collect(),
                            keep,
                        }
                    }
                    Err(why) => {
                        summary.bad += 1;
                        Line {
                            id,
                            error: Some(why),
                            labels: Vec::new(),
                            probabilities: Vec::new(),
                            keep: None,
                        }
                    }
                };
                display.show(summary.documents, summary.bytes);
                match self.json {
                    true => lines.write(&line).map_err(|error| CurateError::Invalid(error.to_string())),
                    false => Ok(()),
                }
            },
        )?;
        lines.finish()?;
        display.finish(summary.documents, summary.bytes);
        if summary.bad > 0 {
            eprintln!("warning: {} documents cannot be read; --json says which", summary.bad);
        }
        if !self.json {
            summary.print(&model, decides.is_some());
        }
        Ok(())
    }
}

/// What people are told.
#[derive(Default)]
struct Summary {
    documents: u64,
    bytes: u64,
    bad: u64,
    kept: u64,
    /// How many documents have each label first.
    first: Vec<u64>,
}

impl Summary {
    fn count(&mut self, predictions: &[LabelPrediction], keep: Option<bool>) {
        self.kept += u64::from(keep == Some(true));
        if let Some(first) = predictions.first() {
            self.first[first.label] += 1;
        }
    }

    fn print(&self, model: &FastText, decides: bool) {
        let mut order: Vec<usize> = (0..self.first.len()).filter(|&label| self.first[label] > 0).collect();
        order.sort_by_key(|&label| std::cmp::Reverse(self.first[label]));
        for label in order {
            println!("{:>10} {}", self.first[label], model.labels()[label]);
        }
        if decides {
            println!("{} of {} documents are kept", self.kept, self.documents);
        }
    }
}

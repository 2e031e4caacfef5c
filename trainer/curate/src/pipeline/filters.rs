//! Classifiers and rules as stages of a recipe.

use super::stage::{DocumentStage, Verdict};
use crate::document::CorpusDocument;
use crate::error::{CurateError, Result};
use crate::fasttext::{FastText, LABEL_PREFIX, Preset, Scratch};
use crate::rules::{BlockedWords, Rules};
use serde_json::json;
use std::path::Path;

/// Keeps documents by the probability of one label of a fastText model, which becomes a column.
pub(super) struct Classify {
    model: FastText,
    label: usize,
    name: String,
    column: String,
    decides: Decides,
}

enum Decides {
    Preset(Preset),
    AtLeast(f32),
}

/// What decides about a document, as a recipe has it.
pub(super) struct ClassifyChoice<'a> {
    pub(super) preset: Option<&'a str>,
    pub(super) language: &'a str,
    pub(super) label: Option<&'a str>,
    pub(super) threshold: Option<f32>,
}

impl Classify {
    pub(super) fn open(model: &Path, choice: &ClassifyChoice<'_>) -> Result<Classify> {
        let usage = |what: String| Err(CurateError::Usage(what));
        let (decides, name, column) = match (choice.preset, choice.label, choice.threshold) {
            (Some("language"), None, None) => {
                let preset = Preset::Language(choice.language.to_owned());
                (Decides::Preset(preset), "language".to_owned(), "language_score".to_owned())
            }
            (Some("dclm"), None, None) => {
                (Decides::Preset(Preset::Dclm), "dclm".to_owned(), "dclm_score".to_owned())
            }
            (Some(other), None, None) => {
                return usage(format!("preset: expected \"language\" or \"dclm\", found {other:?}"));
            }
            (None, Some(label), Some(least)) if (0.0..=1.0).contains(&least) => {
                let bare = label.strip_prefix(LABEL_PREFIX).unwrap_or(label);
                (Decides::AtLeast(least), format!("classify {bare}"), format!("{bare}_score"))
            }
            _ => {
                return usage(
                    "expected either preset, or label and a threshold from 0 to 1, found other keys".into(),
                );
            }
        };
        let model = FastText::open(model)?;
        let wanted = match &decides {
            Decides::Preset(preset) => preset.clone(),
            Decides::AtLeast(_) => {
                let label = choice.label.unwrap_or_default();
                Preset::Language(label.strip_prefix(LABEL_PREFIX).unwrap_or(label).to_owned())
            }
        };
        Ok(Classify { label: wanted.label_in(&model)?, model, name, column, decides })
    }
}

impl DocumentStage for Classify {
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, document: &mut CorpusDocument) -> Verdict {
        let mut scratch = Scratch::default();
        let predictions = match self.model.predict(&document.text, &mut scratch) {
            Ok(predictions) => predictions,
            Err(error) => return Verdict::Remove(error.to_string()),
        };
        let found = predictions.iter().find(|prediction| prediction.label == self.label);
        let probability = found.map_or(0.0, |prediction| prediction.probability);
        document.fields.insert(self.column.clone(), json!(probability));
        let keeps = match &self.decides {
            Decides::Preset(preset) => preset.keeps(self.label, predictions),
            Decides::AtLeast(least) => probability >= *least,
        };
        match keeps {
            true => Verdict::Keep,
            false => Verdict::Remove(format!("{} {probability:.3}", self.column)),
        }
    }
}

/// The rules of a paper, or blocked words. C4's drop lines of the text.
pub(super) struct ApplyRules(pub(super) Rules);

impl ApplyRules {
    /// The rules of these names, and of a file of blocked words.
    pub(super) fn open(names: &[String], blocked_words: Option<&Path>) -> Result<Vec<ApplyRules>> {
        let known = Rules::NAMES.join(", ");
        let named = names.iter().map(|name| {
            let unknown = || CurateError::Usage(format!("rules: expected names of {known}, found {name:?}"));
            Rules::named(name).map(ApplyRules).ok_or_else(unknown)
        });
        let mut all = named.collect::<Result<Vec<_>>>()?;
        if let Some(path) = blocked_words {
            all.push(ApplyRules(Rules::BlockedWords(BlockedWords::open(path)?)));
        }
        if all.is_empty() {
            return Err(CurateError::Usage(format!(
                "rules: expected names of {known}, or blocked-words, found none"
            )));
        }
        Ok(all)
    }
}

impl DocumentStage for ApplyRules {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply(&self, document: &mut CorpusDocument) -> Verdict {
        match self.0.apply(&document.text) {
            Ok(None) => Verdict::Keep,
            Ok(Some(left)) => {
                document.text = left;
                Verdict::Keep
            }
            Err(removal) => {
                let (reason, value, threshold) = (removal.reason, removal.value, removal.threshold);
                Verdict::Remove(format!("{reason}: {value:.3}, threshold {threshold}"))
            }
        }
    }
}

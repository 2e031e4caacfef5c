//! Published thresholds for published classifiers.

use super::{FastText, LABEL_PREFIX, LabelPrediction};
use crate::error::{CurateError, Result};

/// A page is English where lid.176 says so with more than this: FineWeb (Penedo et al. 2024), section 3.
pub const LANGUAGE_ABOVE: f32 = 0.65;
/// A page is of high quality where DCLM's classifier says so with at least this: the best 10% of its pool (Li et al.
/// 2024, `fasttext_oh_eli5`).
pub const DCLM: f32 = 0.018112;

/// Which documents are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Preset {
    /// Those in a language, by a model such as lid.176: more than [`LANGUAGE_ABOVE`].
    Language(String),
    /// Those of high quality, by DCLM's model: at least [`DCLM`] for the label `__label__hq`.
    Dclm,
}

impl Preset {
    /// The label that decides, with its prefix.
    pub fn label(&self) -> String {
        match self {
            Preset::Language(language) => format!("{LABEL_PREFIX}{language}"),
            Preset::Dclm => format!("{LABEL_PREFIX}hq"),
        }
    }

    /// The index of the label that decides.
    ///
    /// # Errors
    /// The model does not have it.
    pub fn label_in(&self, model: &FastText) -> Result<usize> {
        let label = self.label();
        model.labels().iter().position(|other| *other == label).ok_or_else(|| {
            let known = model.labels().iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            CurateError::Usage(format!(
                "expected a model with the label {label}, found {} labels ({known}); choose another preset or model",
                model.labels().len()
            ))
        })
    }

    /// Whether a document with these predictions is kept; `label` is what [`Preset::label_in`] gave.
    pub fn keeps(&self, label: usize, predictions: &[LabelPrediction]) -> bool {
        let found = predictions.iter().find(|prediction| prediction.label == label);
        let probability = found.map_or(0.0, |prediction| prediction.probability);
        match self {
            Preset::Language(_) => probability > LANGUAGE_ABOVE,
            Preset::Dclm => probability >= DCLM,
        }
    }
}

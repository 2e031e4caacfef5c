//! `metrics.jsonl`: the measurements of a run, one JSON object per line, each step once.

use super::json_lines::{JsonLines, read_all};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file's name in a run folder.
pub const FILE_NAME: &str = "metrics.jsonl";

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Steps finished, including this one: the first is 1.
    pub step: u64,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The step's loss; of tokens the mean cross-entropy, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The learning rate that was applied.
    #[serde(deserialize_with = "null_is_nan")]
    pub learning_rate: f64,
    /// Norm of the whole gradient before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub gradient_norm: f64,
    /// Tokens seen since the run's beginning.
    pub tokens: u64,
    /// This step's tokens over `seconds`.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_second: f64,
    /// Share of the device's peak that the model's FLOPs make up, in 0..=1, attention counted by its causal half; none
    /// where the peak is not known.
    #[serde(default, rename = "mfu_causal", skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// Wall time of this step alone.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// What else the objective measured, by name.
    #[serde(default, skip_serializing_if = "NamedFigures::is_empty", deserialize_with = "nulls_are_nan")]
    pub figures: NamedFigures,
}

/// Numbers beside the loss, by their names in snake_case.
pub type NamedFigures = BTreeMap<String, f64>;

/// An objective's figures as they are written.
pub fn named(figures: &[(&'static str, f64)]) -> NamedFigures {
    figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

/// A measurement on the held-out set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationPoint {
    /// Steps finished before it.
    pub step: u64,
    /// The objective's held-out loss; of tokens the mean cross-entropy, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// `exp(loss)`, where the loss is a cross-entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Tokens trained on before it.
    pub tokens: u64,
    /// What else the objective measured, by name.
    #[serde(default, skip_serializing_if = "NamedFigures::is_empty", deserialize_with = "nulls_are_nan")]
    pub figures: NamedFigures,
}

impl fmt::Display for ValidationPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: held-out loss {:.4}", self.step, self.loss)?;
        if let Some(perplexity) = self.perplexity {
            write!(f, ", perplexity {perplexity:.2}")?;
        }
        self.figures.iter().try_for_each(|(name, value)| write!(f, ", {} {value:.4}", name.replace('_', " ")))
    }
}

/// A sample of the model's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleText {
    /// Steps finished before it.
    pub step: u64,
    /// The prompt.
    pub prompt: String,
    /// The completion.
    pub text: String,
    /// Tokens of the completion; none in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Whether the model ended the text itself, rather than the limit on its tokens; none in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<bool>,
}

/// A start of the program in a run folder: what the steps after it ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Steps finished before it; 0 for a new run.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub total_steps: u64,
    /// Numbers of the model without adapters, a tied head counted once.
    pub parameters: u64,
    /// Numbers that are trained: of the model, or of its adapters.
    pub trainable: u64,
    /// The device, for display.
    pub device: String,
    /// Threads that compute.
    pub threads: u64,
    /// Version of the program.
    pub version: String,
}

/// A step that was not trained on; `skipped.jsonl` has its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedPoint {
    /// The step's number.
    pub step: u64,
    /// Why.
    pub reason: String,
}

/// A line of the file; `kind` names the variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MetricsEvent {
    /// An optimizer step.
    Step(StepMetrics),
    /// A held-out measurement.
    Validation(ValidationPoint),
    /// A sample text.
    Sample(SampleText),
    /// A step that was not trained on.
    Skipped(SkippedPoint),
    /// A start of the program.
    Start(StartRecord),
    /// A kind of line that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// JSON has no NaN: serde_json writes `null` for it.
fn null_is_nan<'de, D: Deserializer<'de>>(number: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(number)?.unwrap_or(f64::NAN))
}

fn nulls_are_nan<'de, D: Deserializer<'de>>(numbers: D) -> std::result::Result<NamedFigures, D::Error> {
    let numbers = BTreeMap::<String, Option<f64>>::deserialize(numbers)?;
    Ok(numbers.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::NAN))).collect())
}

/// The file being written. Each event is written at once, so a killed run loses none.
#[derive(Debug)]
pub struct MetricsFile(JsonLines);

impl MetricsFile {
    /// Creates or empties the file for a new run in the folder `run`.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be written to.
    pub fn create(run: &Path) -> Result<MetricsFile> {
        Ok(MetricsFile(JsonLines::create(&run.join(FILE_NAME))?))
    }

    /// Reopens the file of a run that resumes after `step`: drops later lines and an incomplete last line. Creates a
    /// missing file.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the line's number when a line before the last is damaged; [`Error::File`].
    pub fn resume(run: &Path, step: u64) -> Result<MetricsFile> {
        Ok(MetricsFile(JsonLines::resume(&run.join(FILE_NAME), step)?))
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`Error::File`], as on a full disk.
    pub fn write(&mut self, event: &MetricsEvent) -> Result<()> {
        self.0.write(event)
    }

    /// Syncs all lines to disk; called before a checkpoint is written, so that its steps survive a power failure.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn sync(&self) -> Result<()> {
        self.0.sync()
    }
}

/// Reads the metrics of a run: `path` is the run folder or its `metrics.jsonl`. Skips lines of unknown kinds and an
/// incomplete last line.
///
/// # Errors
/// [`Error::Usage`] when there is no such file; [`Error::Invalid`] when it is empty, or a line before the last is damaged (with
/// its number); [`Error::File`].
pub fn read(path: &Path) -> Result<Vec<MetricsEvent>> {
    let events = read_started(path)?;
    if events.is_empty() {
        let path = file_path(path);
        return Err(Error::Invalid(format!(
            "{}: the file is empty; the run has not finished its first step",
            path.display()
        )));
    }
    Ok(events)
}

/// As [`read`], but a run that has not finished its first step has no events.
///
/// # Errors
/// As [`read`], without that of an empty file.
pub fn read_started(path: &Path) -> Result<Vec<MetricsEvent>> {
    let Some(mut events) = read_all::<MetricsEvent>(&file_path(path))? else {
        return Err(Error::Usage(format!(
            "{}: there is no {FILE_NAME}; expected the folder of a run of `thimble-train`",
            path.display()
        )));
    };
    events.retain(|event| *event != MetricsEvent::Unknown);
    Ok(events)
}

fn file_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE_NAME) } else { path.to_path_buf() }
}

//! What a run keeps of its troubles: `skipped.jsonl`, the steps that were not trained on, and `history.jsonl`, the
//! changes of its recipe.

use super::json_lines::{JsonLines, read_all};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The name of the file of skipped steps in a run folder.
pub const SKIPPED: &str = "skipped.jsonl";
/// The name of the file of changes in a run folder.
pub const HISTORY: &str = "history.jsonl";

/// A step whose gradient was thrown away; the run went on behind its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// The step's number; the first is 1.
    pub step: u64,
    /// The stage's name in the recipe.
    pub stage: String,
    /// Why it was skipped.
    pub reason: String,
    /// Where its data come from, one line for each sequence.
    pub data: Vec<String>,
}

/// A key of the recipe that a resumed run changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeChange {
    /// Steps finished before it.
    pub step: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// The dotted key, as `--set` takes it.
    pub key: String,
    /// The value before.
    pub from: String,
    /// The value from then on.
    pub to: String,
}

/// The file of skipped steps; every line is synced.
#[derive(Debug)]
pub struct SkippedFile(JsonLines);

impl SkippedFile {
    /// Opens the file of a run that goes on after `step` (0: a new run), without the lines of later steps.
    ///
    /// # Errors
    /// The file cannot be read or written, or a line before the last is damaged.
    pub fn open(run: &Path, step: u64) -> Result<SkippedFile> {
        Ok(SkippedFile(JsonLines::resume(&run.join(SKIPPED), step)?))
    }

    /// Appends a step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, step: &SkippedStep) -> Result<()> {
        self.0.write(step)?;
        self.0.sync()
    }
}

/// The changes of a run's recipe, oldest first; none where the recipe was never changed.
///
/// # Errors
/// The file cannot be read, or a line before the last is damaged.
pub fn read_history(run: &Path) -> Result<Vec<RecipeChange>> {
    Ok(read_all(&run.join(HISTORY))?.unwrap_or_default())
}

/// Replaces the history of a run's recipe.
///
/// # Errors
/// The file cannot be written.
pub fn write_history(run: &Path, changes: &[RecipeChange]) -> Result<()> {
    let path = run.join(HISTORY);
    let mut text = String::new();
    for change in changes {
        let line = serde_json::to_string(change);
        text.push_str(&line.map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?);
        text.push('\n');
    }
    write_atomically(&path, text.as_bytes())
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! Partial results: finished items, appended to a file beside the result, so that an interrupted evaluation can resume.
//!
//! Each line is a JSON object; the first identifies the evaluation.

use super::error::{EvalError, Result};
use super::item_runner::ItemOutcome;
use super::results::Identity;
use super::task::Task;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first line: what is evaluated.
    #[serde(rename = "of")]
    Identity(Box<Identity>),
    /// A run began.
    #[serde(rename = "sitting")]
    Started,
    /// The predicted seconds of the whole evaluation.
    Predicted(f64),
    /// A finished item, and the seconds since its run began.
    Done { at: f64, outcome: ItemOutcome },
}

/// An open file of partial results.
pub(crate) struct PartialResults {
    file: File,
    path: PathBuf,
    begin: Instant,
    synced: Instant,
}

/// What earlier runs finished.
#[derive(Default)]
pub(crate) struct EarlierRuns {
    pub(crate) outcomes: Vec<ItemOutcome>,
    /// The total of all runs.
    pub(crate) seconds: f64,
    pub(crate) runs: usize,
    pub(crate) predicted: Option<f64>,
}

/// How often the file is synced: a killed process loses nothing, a power cut little.
const SYNC: Duration = Duration::from_secs(20);

/// The first bytes of the file.
const START: &[u8] = b"{\"of\":";
const NOT_PARTIAL_RESULTS: &str = "these are not partial results of `thimble eval`: choose another -o";

impl PartialResults {
    /// The path of the partial results of a result.
    pub(crate) fn path_of(result: &Path) -> PathBuf {
        let mut name = result.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// Opens or creates `path` for the evaluation `identity`, and locks it.
    pub(crate) fn open(path: &Path, identity: &Identity) -> Result<(PartialResults, EarlierRuns)> {
        let wrong = |reason: String| EvalError::PartialResults { path: path.to_path_buf(), reason };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(EvalError::io("open", path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(wrong(
                    "another process is running this evaluation: wait for it, or choose another -o"
                        .to_string(),
                ));
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut partial =
            PartialResults { file, path: path.to_path_buf(), begin: Instant::now(), synced: Instant::now() };
        let (earlier, whole) = partial.read(identity)?;
        // Drops a line that a killed process left incomplete.
        partial.file.set_len(whole).map_err(EvalError::io("write", path))?;
        partial.file.seek(SeekFrom::End(0)).map_err(EvalError::io("write", path))?;
        if whole == 0 {
            partial.write(&Line::Identity(Box::new(identity.clone())))?;
        }
        partial.write(&Line::Started)?;
        Ok((partial, earlier))
    }

    /// The file's content, and the length of its complete lines.
    fn read(&mut self, identity: &Identity) -> Result<(EarlierRuns, u64)> {
        let wrong = |reason: String| EvalError::PartialResults { path: self.path.clone(), reason };
        let mut earlier = EarlierRuns::default();
        let (mut whole, mut run_seconds) = (0, 0.0);
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(EvalError::io("read", &self.path))?;
            if !line.ends_with(b"\n") {
                // An incomplete first line is rewritten; anything else is not our file.
                if number == 1 && !line.starts_with(START) && !START.starts_with(&line) {
                    return Err(wrong(NOT_PARTIAL_RESULTS.to_string()));
                }
                break;
            }
            let parsed = serde_json::from_slice(&line).map_err(|error| {
                wrong(format!("line {number} is damaged ({error}): delete the file to start over"))
            })?;
            match parsed {
                Line::Identity(found) if number == 1 => {
                    if let Some(difference) = found.difference(identity) {
                        return Err(wrong(format!(
                            "these are the partial results of another evaluation ({difference}): choose another -o, or delete \
                             the file to start over"
                        )));
                    }
                }
                _ if number == 1 => {
                    return Err(wrong(NOT_PARTIAL_RESULTS.to_string()));
                }
                Line::Identity(_) => {
                    return Err(wrong(format!("line {number} is damaged: delete the file to start over")));
                }
                Line::Started => {
                    earlier.runs += 1;
                    earlier.seconds += run_seconds;
                    run_seconds = 0.0;
                }
                Line::Predicted(seconds) => earlier.predicted = Some(seconds),
                Line::Done { at, outcome } => {
                    run_seconds = at;
                    earlier.outcomes.push(outcome);
                }
            }
            whole += line.len() as u64;
        }
        earlier.seconds += run_seconds;
        Ok((earlier, whole))
    }

    /// The error for an item with an incomplete outcome.
    pub(crate) fn wrong_item(&self, task: Task, index: usize) -> EvalError {
        let reason =
            format!("item {index} of {task} is damaged: delete the file to start over", task = task.name());
        EvalError::PartialResults { path: self.path.clone(), reason }
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        // One call, so that an interrupted write leaves a prefix of the line.
        let mut bytes = serde_json::to_vec(line).map_err(|error| EvalError::PartialResults {
            path: self.path.clone(),
            reason: format!("a line cannot be written: {error}"),
        })?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(EvalError::io("write", &self.path))
    }

    /// Appends a finished item.
    pub(crate) fn done(&mut self, outcome: &ItemOutcome) -> Result<()> {
        let at = self.begin.elapsed().as_secs_f64();
        self.write(&Line::Done { at, outcome: outcome.clone() })?;
        if self.synced.elapsed() > SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Appends a prediction.
    pub(crate) fn predicted(&mut self, seconds: f64) -> Result<()> {
        self.write(&Line::Predicted(seconds))
    }

    /// Syncs the file to the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(EvalError::io("write", &self.path))
    }
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;

//! Partial results, in a file beside the result: finished items, appended as they come, so that an evaluation can go on after an
//! interruption. One JSON object in a line; the first says of which evaluation they are.

use super::answerer::ItemOutcome;
use super::error::{EvalError, Result};
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
    /// The first: what is evaluated.
    Of(Box<Identity>),
    /// A process began to write.
    Sitting,
    /// What the whole was predicted to take, in seconds.
    Predicted(f64),
    /// A finished item, and the seconds since its sitting began.
    Done { at: f64, outcome: ItemOutcome },
}

/// An open file of partial results.
pub(crate) struct PartialResults {
    file: File,
    path: PathBuf,
    begin: Instant,
    synced: Instant,
}

/// What earlier sittings left.
#[derive(Default)]
pub(crate) struct EarlierRuns {
    pub(crate) outcomes: Vec<ItemOutcome>,
    /// Of all of them, added up.
    pub(crate) seconds: f64,
    pub(crate) sittings: usize,
    pub(crate) predicted: Option<f64>,
}

/// How often what was written is also forced to the disk: a killed process loses nothing, a power cut little.
const SYNC: Duration = Duration::from_secs(20);

/// How a file of partial results begins.
const START: &[u8] = b"{\"of\":";
const NOT_PARTIAL_RESULTS: &str = "these are no partial results of `thimble eval`: name another -o";

impl PartialResults {
    /// The path of the partial results beside a result.
    pub(crate) fn path_of(result: &Path) -> PathBuf {
        let mut name = result.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// Opens `path` for the evaluation `identity`, new or to go on with; held by one process at a time.
    pub(crate) fn open(path: &Path, identity: &Identity) -> Result<(PartialResults, EarlierRuns)> {
        let wrong = |reason: String| EvalError::PartialResults { path: path.to_path_buf(), reason };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(EvalError::io("open", path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(wrong(
                    "another process is at this evaluation: wait for it, or name another -o".to_string(),
                ));
            }
            // A file system without locks is used without.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut partial =
            PartialResults { file, path: path.to_path_buf(), begin: Instant::now(), synced: Instant::now() };
        let (earlier, whole) = partial.read(identity)?;
        // A line that a killed process left unfinished goes.
        partial.file.set_len(whole).map_err(EvalError::io("write", path))?;
        partial.file.seek(SeekFrom::End(0)).map_err(EvalError::io("write", path))?;
        if whole == 0 {
            partial.write(&Line::Of(Box::new(identity.clone())))?;
        }
        partial.write(&Line::Sitting)?;
        Ok((partial, earlier))
    }

    /// What is in the file, and the bytes of its whole lines.
    fn read(&mut self, identity: &Identity) -> Result<(EarlierRuns, u64)> {
        let wrong = |reason: String| EvalError::PartialResults { path: self.path.clone(), reason };
        let mut earlier = EarlierRuns::default();
        let (mut whole, mut sitting) = (0, 0.0);
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(EvalError::io("read", &self.path))?;
            if !line.ends_with(b"\n") {
                // A first line that was cut off may be written anew; anything else is someone's file.
                if number == 1 && !line.starts_with(START) && !START.starts_with(&line) {
                    return Err(wrong(NOT_PARTIAL_RESULTS.to_string()));
                }
                break;
            }
            let parsed = serde_json::from_slice(&line).map_err(|error| {
                wrong(format!("line {number} is damaged ({error}): delete the file to begin anew"))
            })?;
            match parsed {
                Line::Of(found) if number == 1 => {
                    if let Some(difference) = found.difference(identity) {
                        return Err(wrong(format!(
                            "these are the partial results of another evaluation ({difference}): name another -o, or delete \
                             the file to begin anew"
                        )));
                    }
                }
                _ if number == 1 => {
                    return Err(wrong(NOT_PARTIAL_RESULTS.to_string()));
                }
                Line::Of(_) => {
                    return Err(wrong(format!("line {number} is damaged: delete the file to begin anew")));
                }
                Line::Sitting => {
                    earlier.sittings += 1;
                    earlier.seconds += sitting;
                    sitting = 0.0;
                }
                Line::Predicted(seconds) => earlier.predicted = Some(seconds),
                Line::Done { at, outcome } => {
                    sitting = at;
                    earlier.outcomes.push(outcome);
                }
            }
            whole += line.len() as u64;
        }
        earlier.seconds += sitting;
        Ok((earlier, whole))
    }

    /// The error about an item of which the partial results do not hold what it should.
    pub(crate) fn wrong_item(&self, task: Task, index: usize) -> EvalError {
        let reason =
            format!("item {index} of {task} is damaged: delete the file to begin anew", task = task.name());
        EvalError::PartialResults { path: self.path.clone(), reason }
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        // In one call, so that what is there of a line is its beginning.
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

    /// Forces everything to the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(EvalError::io("write", &self.path))
    }
}

#[cfg(test)]
#[path = "partial_tests.rs"]
mod tests;

//! The folder of a run's checkpoints: saving, finding, and removing old ones.

use super::{
    CHECKED, CHECKSUMS, OPTIMIZER, RECIPE, STATE, TrainingState, TrainingTensors, WEIGHTS, checksum,
    write_moments,
};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::weights::write_weights;
use safetensors::tensor::Dtype;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const PREFIX: &str = "step-";
const UNFINISHED: &str = ".writing-";

/// Which checkpoint of a run is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointChoice<'a> {
    /// The best of the stage that the run has reached, or the newest where none was measured in it.
    BestOfLastStage,
    /// The best of a stage, by its index in the recipe.
    BestOf(usize),
    /// `last`, `best`, or the name of a folder.
    Named(&'a str),
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
    keep: usize,
}

impl CheckpointStore {
    /// The checkpoints under a run folder, of which the newest `keep` stay (at least one), and each stage's best.
    pub fn new(run: &Path, keep: usize) -> CheckpointStore {
        CheckpointStore { folder: run.join("checkpoints"), keep: keep.max(1) }
    }

    /// Removes no checkpoint from now on.
    pub fn keep_all(&mut self) {
        self.keep = usize::MAX;
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint that is meant.
    ///
    /// # Errors
    /// As [`CheckpointStore::find`]; the newest checkpoint is damaged, or a stage has no best one.
    pub fn choose(&self, choice: CheckpointChoice) -> Result<PathBuf> {
        let stage = match choice {
            CheckpointChoice::Named(name) => return self.find(Some(name)),
            CheckpointChoice::BestOf(stage) => Some(stage),
            CheckpointChoice::BestOfLastStage => None,
        };
        let newest = self.find(None)?;
        let state = super::read_state(&newest)?;
        let best = state.best_of(stage.unwrap_or(state.position.stage()));
        let best = best.map(|best| self.folder.join(folder_name(best.step))).filter(|path| path.is_dir());
        match (best, stage) {
            (Some(best), _) => Ok(best),
            (None, None) => Ok(newest),
            (None, Some(_)) => Err(Error::Invalid(format!(
                "{}: that stage has no checkpoint whose held-out loss was measured; choose one with --checkpoint",
                self.folder.display()
            ))),
        }
    }

    /// The checkpoint of that name (`last`, `best`, or a folder's name), or the newest for none.
    ///
    /// # Errors
    /// There is none, or no such run.
    pub fn find(&self, name: Option<&str>) -> Result<PathBuf> {
        if let Some(run) = self.folder.parent().filter(|run| !run.is_dir()) {
            let run = run.display();
            return Err(Error::Usage(format!("{run}: expected the folder of a run, found no such folder")));
        }
        let steps = self.steps()?;
        let found = match name {
            None | Some("last") => steps.last().map(|&step| folder_name(step)),
            Some("best") => Some(self.named("best")).filter(|name| !name.is_empty()),
            Some(name) => Some(name.to_owned()),
        };
        match found.map(|found| self.folder.join(found)).filter(|path| path.join(STATE).is_file()) {
            Some(path) => Ok(path),
            None => {
                let folder = self.folder.display();
                // A name of a checkpoint was typed; what is newest was not.
                let error = if matches!(name, None | Some("last")) { Error::Invalid } else { Error::Usage };
                Err(error(match (name, steps.as_slice()) {
                    (None, []) => format!("{folder}: no complete checkpoint found"),
                    (None | Some("last"), [.., newest]) => {
                        let newest = self.folder.join(folder_name(*newest));
                        format!(
                            "{}: the file is missing; remove the folder {} to resume from the previous checkpoint",
                            newest.join(STATE).display(),
                            newest.display()
                        )
                    }
                    (Some(name), []) => format!("{folder}: there is no checkpoint {name:?}; found none"),
                    (Some(name), steps) => {
                        let found =
                            steps.iter().map(|&step| folder_name(step)).collect::<Vec<_>>().join(", ");
                        format!("{folder}: there is no checkpoint {name:?}; found: {found}")
                    }
                }))
            }
        }
    }

    /// Steps of the whole checkpoints, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::file(&self.folder, "read"))? {
            let name = entry.map_err(Error::file(&self.folder, "read"))?.file_name();
            steps.extend(name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Writes a checkpoint, records it as `last` (and as its stage's best, if it is), and removes old ones.
    ///
    /// # Errors
    /// A file cannot be written, as on a full disk. Earlier checkpoints stay whole.
    pub fn save(
        &self,
        parameters: &Parameters,
        state: &TrainingState,
        tensors: &TrainingTensors,
        recipe: &str,
    ) -> Result<PathBuf> {
        let name = folder_name(state.step);
        let (unfinished, folder) = (self.folder.join(format!("{UNFINISHED}{name}")), self.folder.join(&name));
        self.write(&unfinished, parameters, state, tensors, recipe).map_err(|error| {
            // A partial checkpoint only takes up room, so a failure to remove it is no error.
            let _ = fs::remove_dir_all(&unfinished);
            let before = self.steps().ok().and_then(|steps| steps.last().copied());
            let before = match before {
                Some(step) => {
                    format!(
                        "the checkpoint of step {step} is whole: free some space and continue with --resume"
                    )
                }
                None => "there is no earlier one: free some space and start again".to_owned(),
            };
            Error::Invalid(format!(
                "the checkpoint of step {} could not be written: {error}; {before}",
                state.step
            ))
        })?;
        fs::rename(&unfinished, &folder).map_err(Error::file(&folder, "write"))?;
        thimble_files::sync_folder(&self.folder).map_err(Error::file(&self.folder, "write"))?;
        write_atomically(&self.folder.join("last"), format!("{name}\n").as_bytes())?;
        let last_stage = state.best.iter().map(|best| best.stage).max();
        for best in &state.best {
            // It may be an earlier one: a kill can come between a checkpoint's rename and its record.
            let best_name = folder_name(best.step);
            let file = match best.stage {
                stage if Some(stage) == last_stage => "best".to_owned(),
                stage => format!("best-stage-{stage}"),
            };
            if self.named(&file) != best_name && self.folder.join(&best_name).is_dir() {
                write_atomically(&self.folder.join(file), format!("{best_name}\n").as_bytes())?;
            }
        }
        self.rotate(state)?;
        Ok(folder)
    }

    fn write(
        &self,
        into: &Path,
        parameters: &Parameters,
        state: &TrainingState,
        tensors: &TrainingTensors,
        recipe: &str,
    ) -> Result<()> {
        if into.exists() {
            fs::remove_dir_all(into).map_err(Error::file(into, "remove"))?;
        }
        fs::create_dir_all(into).map_err(Error::file(into, "create"))?;
        write_weights(&into.join(WEIGHTS), parameters.trained(), &tensors.weights, Dtype::F32)?;
        write_moments(&into.join(OPTIMIZER), tensors)?;
        let write = |name: &str, text: &[u8]| {
            let path = into.join(name);
            fs::write(&path, text).map_err(Error::file(&path, "write"))
        };
        write(RECIPE, recipe.as_bytes())?;
        write(STATE, &json(state)?)?;
        let mut checksums = BTreeMap::new();
        for name in CHECKED {
            let path = into.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::file(&path, "write"))?;
            checksums.insert(name.to_owned(), checksum(&path)?);
        }
        write_atomically(&into.join(CHECKSUMS), &json(&checksums)?)?;
        thimble_files::sync_folder(into).map_err(Error::file(into, "write"))
    }

    /// The folder that a file names; empty for none.
    fn named(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default().trim().to_owned()
    }

    /// Removes checkpoints that are neither among the newest nor a stage's best, and partial ones of killed runs.
    fn rotate(&self, state: &TrainingState) -> Result<()> {
        let steps = self.steps()?;
        for &step in &steps[..steps.len().saturating_sub(self.keep)] {
            let path = self.folder.join(folder_name(step));
            if state.best.iter().all(|best| best.step != step) {
                fs::remove_dir_all(&path).map_err(Error::file(&path, "remove"))?;
            }
        }
        for entry in fs::read_dir(&self.folder).map_err(Error::file(&self.folder, "read"))? {
            let path = entry.map_err(Error::file(&self.folder, "read"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(UNFINISHED) {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(Error::file(&path, "remove"))?;
            }
        }
        Ok(())
    }
}

pub(super) fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::Invalid(error.to_string()))
}

//! Checkpoints: one atomic folder each, from which a run continues bit for bit.
//!
//! ```text
//! RUN/checkpoints/step-00000500/   model.safetensors (f32 masters of the trainable weights), optimizer.safetensors,
//!                                  recipe.toml, state.json,
//!                                  checksums.json (XXH3-64 of the other files)
//! RUN/checkpoints/last, best       one line each: the name of the folder; `best` is of the last stage that was measured,
//!                                  best-stage-N of an earlier one (from 0)
//! ```
//!
//! A checkpoint is written beside the others under another name, synced, and renamed, so a folder of that name is
//! whole. Older ones are removed only after that.

mod exact;
mod store;

pub use store::{CheckpointChoice, CheckpointStore};

use crate::data::DataPosition;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::recipe::TrainingRecipe;
use crate::weights::{TensorFile, write_tensors};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use zerocopy::IntoBytes;

/// Weights in f32, by their Hugging Face names.
pub const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// The resolved recipe.
pub const RECIPE: &str = "recipe.toml";
const STATE: &str = "state.json";
const CHECKSUMS: &str = "checksums.json";
const CHECKED: [&str; 4] = [WEIGHTS, OPTIMIZER, RECIPE, STATE];
/// 1 had one best of the whole run, and skipped no steps.
const VERSION: u32 = 2;

const _: () = assert!(cfg!(target_endian = "little"), "checkpoints are written as this machine's bytes");

/// The best validation of a stage. Losses of different stages are not compared: they may be of other contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestValidation {
    /// The stage, as an index of the recipe's.
    pub stage: usize,
    /// Steps finished before it.
    pub step: u64,
    /// The held-out loss.
    #[serde(with = "exact")]
    pub loss: f64,
}

/// Everything that decides how a run continues, besides weights, moments and the recipe. All randomness is a function
/// of the recipe's seed and the counters here, so they are the random state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Version of the file format.
    pub version: u32,
    /// Optimizer steps finished since the run's beginning.
    pub step: u64,
    /// Optimizer steps since the moments were last reset: AdamW's t.
    pub optimizer_step: u64,
    /// The position in the data.
    pub position: DataPosition,
    /// Tokens trained on.
    pub tokens: u64,
    /// Recent losses for the spike guard, oldest first.
    #[serde(with = "exact::list")]
    pub losses: Vec<f64>,
    /// The best validation of each stage that has one, in the order of the stages.
    pub best: Vec<BestValidation>,
    /// Steps that were skipped since the last good one.
    pub skipped_in_a_row: u64,
    /// Hash of the tokenizer that the token sets were made with.
    pub tokenizer: String,
    /// The id that ends every document.
    pub end_of_document: u32,
    /// Identifies the weights that the run began with, if its objective refers to them (dpo, distill).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// Identifies the frozen weights, which no checkpoint holds; none if nothing is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
}

impl TrainingState {
    /// The state before the first step.
    pub fn new(position: DataPosition, tokenizer: &str, end_of_document: u32) -> TrainingState {
        TrainingState {
            version: VERSION,
            step: 0,
            optimizer_step: 0,
            position,
            tokens: 0,
            losses: Vec::new(),
            best: Vec::new(),
            skipped_in_a_row: 0,
            tokenizer: tokenizer.to_owned(),
            end_of_document,
            initial: None,
            frozen: None,
        }
    }

    /// The best validation of a stage.
    pub fn best_of(&self, stage: usize) -> Option<&BestValidation> {
        self.best.iter().find(|best| best.stage == stage)
    }

    /// Records a validation if it is the best of its stage, and returns whether it is.
    pub fn record(&mut self, measured: BestValidation) -> bool {
        match self.best.iter_mut().find(|best| best.stage == measured.stage) {
            Some(best) if measured.loss >= best.loss => return false,
            Some(best) => *best = measured,
            None => self.best.push(measured),
        }
        true
    }
}

/// The tensors of a checkpoint, as the beginning of the engine's flat buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingTensors {
    /// Master weights of the trainable parameters.
    pub weights: Vec<f32>,
    /// AdamW's first moment.
    pub first_moment: Vec<f32>,
    /// AdamW's second moment.
    pub second_moment: Vec<f32>,
}

/// Whether this folder looks like a checkpoint.
pub fn is_checkpoint(folder: &Path) -> bool {
    folder.join(STATE).is_file()
}

/// Reads a checkpoint's state and recipe, after every file has been compared with its checksum.
///
/// # Errors
/// A file is missing, damaged, or of another version.
pub fn open(checkpoint: &Path) -> Result<(TrainingState, TrainingRecipe)> {
    let checksums: BTreeMap<String, String> = serde_json::from_slice(&read(checkpoint, CHECKSUMS)?)
        .map_err(|error| damaged(checkpoint, CHECKSUMS, &format!("the file is damaged: {error}")))?;
    for name in CHECKED {
        let expected = checksums.get(name);
        let expected = expected.ok_or_else(|| {
            damaged(checkpoint, CHECKSUMS, &format!("the file is damaged: it has no checksum of {name}"))
        })?;
        let found = checksum(&checkpoint.join(name))
            .map_err(|error| damaged(checkpoint, name, &format!("the file cannot be read: {error}")))?;
        if found != *expected {
            let what = format!("the file is damaged: its checksum is {found}, {CHECKSUMS} says {expected}");
            return Err(damaged(checkpoint, name, &what));
        }
    }
    Ok((read_state(checkpoint)?, TrainingRecipe::load(checkpoint.join(RECIPE), &[])?))
}

/// Reads a checkpoint's state alone, without a look at the other files.
///
/// # Errors
/// The file is missing, damaged, or of another version.
pub fn read_state(checkpoint: &Path) -> Result<TrainingState> {
    let invalid = |what: String| damaged(checkpoint, STATE, &what);
    let mut state: Value = serde_json::from_slice(&read(checkpoint, STATE)?)
        .map_err(|error| invalid(format!("the file is damaged: {error}")))?;
    match state["version"].as_u64() {
        Some(1) => upgrade(&mut state, checkpoint),
        Some(version) if version == u64::from(VERSION) => {}
        found => {
            let found = found.map_or("none".to_owned(), |version| version.to_string());
            let path = checkpoint.join(STATE);
            return Err(Error::Invalid(format!(
                "{}: format version {found}, this program reads 1 to {VERSION}",
                path.display()
            )));
        }
    }
    serde_json::from_value(state).map_err(|error| invalid(format!("not a checkpoint's state: {error}")))
}

/// From version 1 to this one: the run's one best belongs to the stage that its own checkpoint is of.
fn upgrade(state: &mut Value, checkpoint: &Path) {
    let stage = |state: &Value| state["position"]["stage"].clone();
    let of_best = state["best"]["step"].as_u64().and_then(|step| {
        let folder = checkpoint.parent()?.join(store::folder_name(step));
        serde_json::from_slice::<Value>(&read(&folder, STATE).ok()?).ok()
    });
    let stage = of_best.as_ref().map_or_else(|| stage(state), stage);
    let best: Vec<Value> = match state["best"].take() {
        Value::Object(mut best) => {
            best.insert("stage".into(), stage);
            vec![Value::Object(best)]
        }
        _ => Vec::new(),
    };
    state["best"] = Value::Array(best);
    state["skipped_in_a_row"] = 0.into();
    state["version"] = VERSION.into();
}

fn read(checkpoint: &Path, name: &str) -> Result<Vec<u8>> {
    fs::read(checkpoint.join(name))
        .map_err(|error| damaged(checkpoint, name, &format!("cannot read: {error}")))
}

fn damaged(checkpoint: &Path, name: &str, what: &str) -> Error {
    Error::Invalid(format!(
        "{}: {what}; remove the folder {} to resume from the previous checkpoint",
        checkpoint.join(name).display(),
        checkpoint.display()
    ))
}

/// Reads weights and moments of a checkpoint that [`open`] found whole.
///
/// # Errors
/// A file cannot be read, or is of another model.
pub fn read_tensors(checkpoint: &Path, parameters: &Parameters) -> Result<TrainingTensors> {
    let path = checkpoint.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(Error::file(&path, "read"))?;
    let mut weights = vec![0.0; parameters.trainable];
    TensorFile::parse(&path, &bytes)?.read_all(parameters.trained(), &mut weights)?;
    drop(bytes);
    let [first_moment, second_moment] = read_moments(&checkpoint.join(OPTIMIZER), parameters.trainable)?;
    Ok(TrainingTensors { weights, first_moment, second_moment })
}

const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];

fn write_moments(path: &Path, tensors: &TrainingTensors) -> Result<()> {
    let refuse = |error: safetensors::SafeTensorError| Error::Invalid(format!("{}: {error}", path.display()));
    let [first, second] = [&tensors.first_moment, &tensors.second_moment]
        .map(|values| TensorView::new(Dtype::F32, vec![values.len()], values.as_bytes()).map_err(refuse));
    write_tensors(path, vec![(MOMENTS[0], first?), (MOMENTS[1], second?)], None)
}

fn read_moments(path: &Path, len: usize) -> Result<[Vec<f32>; 2]> {
    let bytes = fs::read(path).map_err(Error::file(path, "read"))?;
    let file = TensorFile::parse(path, &bytes)?;
    let mut moments = MOMENTS.map(|_| vec![0.0; len]);
    for (name, out) in MOMENTS.iter().zip(&mut moments) {
        file.read(name, &[len], out)?;
    }
    Ok(moments)
}

fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::file(path, "read"))?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part).map_err(Error::file(path, "read"))? {
            0 => break,
            len => hash.update(&part[..len]),
        }
    }
    Ok(format!("{:016x}", hash.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As version 1 wrote it.
    fn old_state(step: u64, stage: usize, best: Value) -> Value {
        json!({
            "version": 1, "step": step, "optimizer_step": step, "tokens": step * 64, "losses": ["2.5", "2.25"],
            "position": { "stage": stage, "samples": 3, "sets": {} },
            "best": best, "tokenizer": "abc", "end_of_document": 0,
        })
    }

    #[test]
    fn the_best_of_an_old_run_belongs_to_the_stage_that_it_was_measured_in() {
        let folder = tempfile::tempdir().unwrap();
        let best = json!({ "step": 20, "loss": "1.5" });
        for (step, stage, best) in [(20, 0, &best), (30, 1, &best), (10, 0, &Value::Null)] {
            let checkpoint = folder.path().join(store::folder_name(step));
            fs::create_dir(&checkpoint).unwrap();
            fs::write(checkpoint.join(STATE), old_state(step, stage, best.clone()).to_string()).unwrap();
        }
        let read = |step| read_state(&folder.path().join(store::folder_name(step))).unwrap();
        let state = read(30);
        assert_eq!(state.best, [BestValidation { stage: 0, step: 20, loss: 1.5 }]);
        assert_eq!((state.version, state.skipped_in_a_row, state.best_of(1)), (VERSION, 0, None));
        assert!(matches!(&state.position, DataPosition::Windows(position) if position.samples == 3));
        assert_eq!(read(10).best, []);

        let mut state = state;
        assert!(state.record(BestValidation { stage: 1, step: 31, loss: 9.0 }), "the first of its stage");
        assert!(!state.record(BestValidation { stage: 1, step: 32, loss: 9.0 }));
        assert!(state.record(BestValidation { stage: 1, step: 33, loss: 8.0 }));
        assert_eq!(state.best_of(0).unwrap().step, 20);
        let written = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<TrainingState>(&written).unwrap(), state);
    }

    #[test]
    fn a_position_in_examples_survives_being_written() {
        let position = crate::data::ExamplePosition { stage: 1, step: 7, examples: "0123".into() };
        let position = DataPosition::Examples(position);
        let written = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<DataPosition>(&written).unwrap(), position);
    }

    #[test]
    fn a_state_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (version, found) in [(json!(99), "99"), (Value::Null, "none")] {
            let mut state = old_state(1, 0, Value::Null);
            state["version"] = version;
            fs::write(folder.path().join(STATE), state.to_string()).unwrap();
            let error = read_state(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("format version {found}, this program reads 1 to 2")), "{error}");
        }
    }
}

//! Checkpoints: one atomic folder each, from which a run continues bit for bit.
//!
//! ```text
//! RUN/checkpoints/step-00000500/   model.safetensors (f32 masters of the trainable weights), optimizer.safetensors,
//!                                  recipe.toml, state.json,
//!                                  checksums.json (XXH3-64 of the other files)
//! RUN/checkpoints/last, best       one line each: the name of the folder
//! ```
//!
//! A checkpoint is written beside the others under another name, synced, and renamed, so a folder of that name is
//! whole. Older ones are removed only after that.

mod exact;
mod store;

pub use store::CheckpointStore;

use crate::data::DataPosition;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::recipe::TrainingRecipe;
use crate::weights::{TensorFile, write_tensors};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
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
const VERSION: u32 = 1;

const _: () = assert!(cfg!(target_endian = "little"), "checkpoints are written as this machine's bytes");

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestValidation {
    /// Steps finished before it.
    pub step: u64,
    /// Mean cross-entropy in nats.
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
    /// The best validation.
    pub best: Option<BestValidation>,
    /// Hash of the tokenizer that the token sets were made with.
    pub tokenizer: String,
    /// The id that ends every document.
    pub end_of_document: u32,
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
            best: None,
            tokenizer: tokenizer.to_owned(),
            end_of_document,
            frozen: None,
        }
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
    let damaged = |name: &str, what: String| {
        Error::Invalid(format!(
            "{}: {what}; remove the folder {} to resume from the previous checkpoint",
            checkpoint.join(name).display(),
            checkpoint.display()
        ))
    };
    let text = |name: &str| {
        let path = checkpoint.join(name);
        fs::read(&path).map_err(|error| damaged(name, format!("cannot read: {error}")))
    };
    let checksums: BTreeMap<String, String> = serde_json::from_slice(&text(CHECKSUMS)?)
        .map_err(|error| damaged(CHECKSUMS, format!("the file is damaged: {error}")))?;
    for name in CHECKED {
        let expected = checksums.get(name);
        let expected = expected.ok_or_else(|| {
            damaged(CHECKSUMS, format!("the file is damaged: it has no checksum of {name}"))
        })?;
        let found = checksum(&checkpoint.join(name))
            .map_err(|error| damaged(name, format!("the file cannot be read: {error}")))?;
        if found != *expected {
            let what = format!("the file is damaged: its checksum is {found}, {CHECKSUMS} says {expected}");
            return Err(damaged(name, what));
        }
    }
    let path = checkpoint.join(STATE);
    let state: TrainingState = serde_json::from_slice(&text(STATE)?)
        .map_err(|error| Error::Invalid(format!("{}: not a checkpoint's state: {error}", path.display())))?;
    if state.version != VERSION {
        return Err(Error::Invalid(format!(
            "{}: format version {}, this program reads {VERSION}",
            path.display(),
            state.version
        )));
    }
    Ok((state, TrainingRecipe::load(checkpoint.join(RECIPE), &[])?))
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

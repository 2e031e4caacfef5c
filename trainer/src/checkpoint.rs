//! Checkpoints: one atomic folder each, from which a run continues bit for bit.
//!
//! ```text
//! RUN/checkpoints/step-00000500/   model.safetensors (f32 masters), optimizer.safetensors, recipe.toml, state.json,
//!                                  checksums.json (XXH3-64 of the other files)
//! RUN/checkpoints/last, best       one line each: the name of the folder
//! ```
//!
//! A checkpoint is written beside the others under another name, synced, and renamed, so a folder of that name is whole.
//! Older ones are removed only after that.

use crate::data::loader::LoaderPosition;
use crate::data::token_set::write_atomically;
use crate::error::{Error, Result};
use crate::export::{read_weights, write_tensors, write_weights};
use crate::model::Parameters;
use crate::recipe::TrainingRecipe;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
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
const PREFIX: &str = "step-";
const UNFINISHED: &str = ".writing-";

const _: () = assert!(cfg!(target_endian = "little"), "checkpoints are written as this machine's bytes");

/// The held-out measurement that was best so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps finished before it.
    pub step: u64,
    /// Mean cross-entropy in nats.
    #[serde(with = "exact")]
    pub loss: f64,
}

/// Everything that decides how a run goes on, beside weights, moments and the recipe. All randomness is a function of the
/// recipe's seed and the counters here, so they are the random state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Form of this file.
    pub version: u32,
    /// Optimizer steps finished since the run's beginning.
    pub step: u64,
    /// Optimizer steps since the moments were last reset: AdamW's t.
    pub optimizer_step: u64,
    /// Where the loader is.
    pub position: LoaderPosition,
    /// Tokens trained on.
    pub tokens: u64,
    /// Losses that the spike guard remembers, oldest first.
    #[serde(with = "exact::list")]
    pub losses: Vec<f64>,
    /// The best held-out measurement.
    pub best: Option<Best>,
    /// Hash of the tokenizer that the token sets were made with.
    pub tokenizer: String,
    /// The id that ends every document.
    pub end_of_document: u32,
}

impl State {
    /// The state before the first step.
    pub fn new(position: LoaderPosition, tokenizer: &str, end_of_document: u32) -> State {
        State {
            version: VERSION,
            step: 0,
            optimizer_step: 0,
            position,
            tokens: 0,
            losses: Vec::new(),
            best: None,
            tokenizer: tokenizer.to_owned(),
            end_of_document,
        }
    }
}

/// The numbers of a checkpoint, as the flat buffers of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Master weights.
    pub weights: Vec<f32>,
    /// AdamW's first moment.
    pub first_moment: Vec<f32>,
    /// AdamW's second moment.
    pub second_moment: Vec<f32>,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The checkpoints under a run folder, of which the newest `keep` stay (at least one), and the best.
    pub fn new(run: &Path, keep: usize) -> Store {
        Store { folder: run.join("checkpoints"), keep: keep.max(1) }
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint of that name (`last`, `best`, or a folder's name), or the newest for none.
    ///
    /// # Errors
    /// There is none, or no such run.
    pub fn find(&self, name: Option<&str>) -> Result<PathBuf> {
        if let Some(run) = self.folder.parent().filter(|run| !run.is_dir()) {
            let run = run.display();
            return Err(Error::Invalid(format!("{run}: expected the folder of a run, found no such folder")));
        }
        let steps = self.steps()?;
        let found = match name {
            None | Some("last") => steps.last().map(|&step| folder_name(step)),
            Some("best") => Some(self.best()).filter(|name| !name.is_empty()),
            Some(name) => Some(name.to_owned()),
        };
        match found.map(|found| self.folder.join(found)).filter(|path| path.join(STATE).is_file()) {
            Some(path) => Ok(path),
            None => Err(Error::Invalid(format!(
                "{}: no checkpoint {}; there {}",
                self.folder.display(),
                name.unwrap_or("yet"),
                match steps.len() {
                    0 => "are none".to_owned(),
                    _ => format!(
                        "are {}",
                        steps.iter().map(|&step| folder_name(step)).collect::<Vec<_>>().join(", ")
                    ),
                }
            ))),
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

    /// Writes a checkpoint, then names it `last`, and `best` where it is, and removes what need not stay.
    ///
    /// # Errors
    /// A file cannot be written, as on a full disk: what was there before is still there, whole.
    pub fn save(
        &self,
        parameters: &Parameters,
        state: &State,
        numbers: &Numbers,
        recipe: &str,
    ) -> Result<PathBuf> {
        let name = folder_name(state.step);
        let (unfinished, folder) = (self.folder.join(format!("{UNFINISHED}{name}")), self.folder.join(&name));
        self.write(&unfinished, parameters, state, numbers, recipe).map_err(|error| {
            // What there is of it only takes up room; that it cannot be removed changes nothing.
            let _ = fs::remove_dir_all(&unfinished);
            let before = self.steps().ok().and_then(|steps| steps.last().copied());
            let before = match before {
                Some(step) => {
                    format!("the checkpoint of step {step} is whole: make room and go on with --resume")
                }
                None => "there is no earlier one: make room and start again".to_owned(),
            };
            Error::Invalid(format!(
                "the checkpoint of step {} could not be written: {error}; {before}",
                state.step
            ))
        })?;
        fs::rename(&unfinished, &folder).map_err(Error::file(&folder, "write"))?;
        sync_folder(&self.folder)?;
        write_atomically(&self.folder.join("last"), format!("{name}\n").as_bytes())?;
        // Also where it is an earlier one: a kill may have come between its folder and its name.
        let best = state.best.map(|best| folder_name(best.step));
        if let Some(best) = best.filter(|best| *best != self.best() && self.folder.join(best).is_dir()) {
            write_atomically(&self.folder.join("best"), format!("{best}\n").as_bytes())?;
        }
        self.rotate()?;
        Ok(folder)
    }

    fn write(
        &self,
        into: &Path,
        parameters: &Parameters,
        state: &State,
        numbers: &Numbers,
        recipe: &str,
    ) -> Result<()> {
        if into.exists() {
            fs::remove_dir_all(into).map_err(Error::file(into, "remove"))?;
        }
        fs::create_dir_all(into).map_err(Error::file(into, "create"))?;
        write_weights(&into.join(WEIGHTS), parameters, &numbers.weights, Dtype::F32)?;
        write_moments(&into.join(OPTIMIZER), numbers)?;
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
        sync_folder(into)
    }

    /// The folder that `best` names; empty for none.
    fn best(&self) -> String {
        fs::read_to_string(self.folder.join("best")).unwrap_or_default().trim().to_owned()
    }

    /// Removes checkpoints that are neither among the newest nor the best, and what a killed run left half-written.
    fn rotate(&self) -> Result<()> {
        let steps = self.steps()?;
        let best = self.best();
        for &step in &steps[..steps.len().saturating_sub(self.keep)] {
            let path = self.folder.join(folder_name(step));
            if best != folder_name(step) {
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

fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::Invalid(error.to_string()))
}

/// Whether this folder is a checkpoint, by its look.
pub fn is_one(folder: &Path) -> bool {
    folder.join(STATE).is_file()
}

/// Reads a checkpoint's state and recipe, after every file has been compared with its checksum.
///
/// # Errors
/// A file is missing, damaged, or of another version.
pub fn open(checkpoint: &Path) -> Result<(State, TrainingRecipe)> {
    let damaged = |name: &str, what: String| {
        Error::Invalid(format!(
            "{}: {what}; remove the folder {} to go on from the checkpoint before",
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
    let state: State = serde_json::from_slice(&text(STATE)?)
        .map_err(|error| Error::Invalid(format!("{}: not a checkpoint's state: {error}", path.display())))?;
    if state.version != VERSION {
        return Err(Error::Invalid(format!(
            "{}: version {} of the form, this program reads {VERSION}",
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
pub fn numbers(checkpoint: &Path, parameters: &Parameters) -> Result<Numbers> {
    let weights = read_weights(&checkpoint.join(WEIGHTS), parameters)?;
    let [first_moment, second_moment] = read_moments(&checkpoint.join(OPTIMIZER), parameters.len)?;
    Ok(Numbers { weights, first_moment, second_moment })
}

/// Floats as text: `serde_json` reads numbers to within their last bit only, text is read exactly.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, Error, Serializer};

        pub(crate) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(values.iter().map(f64::to_string))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
            let texts = Vec::<String>::deserialize(deserializer)?;
            texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
        }
    }
}

const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];

fn write_moments(path: &Path, numbers: &Numbers) -> Result<()> {
    let refuse = |error: safetensors::SafeTensorError| Error::Invalid(format!("{}: {error}", path.display()));
    let [first, second] = [&numbers.first_moment, &numbers.second_moment]
        .map(|values| TensorView::new(Dtype::F32, vec![values.len()], values.as_bytes()).map_err(refuse));
    write_tensors(path, vec![(MOMENTS[0], first?), (MOMENTS[1], second?)], None)
}

fn read_moments(path: &Path, len: usize) -> Result<[Vec<f32>; 2]> {
    let bytes = fs::read(path).map_err(Error::file(path, "read"))?;
    let refuse = |what: String| Error::Invalid(format!("{}: {what}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let mut moments = MOMENTS.map(|_| Vec::new());
    for (name, out) in MOMENTS.iter().zip(&mut moments) {
        let tensor = file.tensor(name).map_err(|error| refuse(error.to_string()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != [len] {
            return Err(refuse(format!(
                "{name} is {:?} {:?}, expected {len} of F32",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        out.extend(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
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

fn sync_folder(folder: &Path) -> Result<()> {
    // Only where folders can be opened as files does their content need to be synced.
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file(folder, "write"))?;
    }
    Ok(())
}

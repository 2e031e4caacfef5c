//! `thimble-train export`.

use std::path::{Path, PathBuf};
use thimble_trainer::base;
use thimble_trainer::checkpoint::{self, CheckpointChoice, CheckpointStore, TrainingState};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::export::{Export, export};
use thimble_trainer::init_from;
use thimble_trainer::model::Parameters;
use thimble_trainer::peft::{self, PeftAdapter};
use thimble_trainer::quantization::StartFile;
use thimble_trainer::recipe::{ObjectiveKeys, Precision, TrainingRecipe};
use thimble_trainer::teacher;

/// Write a checkpoint as a Hugging Face folder, or its adapter as a PEFT folder.
///
/// config.json, generation_config.json, model.safetensors and the tokenizer's files: `transformers` loads it and
/// `thimble convert` makes a file of it. Adapters (LoRA) are merged into the model unless --adapter asks for them alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The run folder
    run: PathBuf,
    /// The folder to write; must not exist
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// best, last, or the name of a folder in checkpoints/ [default: the best of the stage that the run has reached, or
    /// last where it was not measured]
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// The best checkpoint of a stage, by the stage's name in the recipe
    #[arg(long, value_name = "NAME", conflicts_with = "checkpoint")]
    stage: Option<String>,
    /// Number format of the weights
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
    /// Write only the adapter, as a folder that the PEFT library loads; --dtype does not apply
    #[arg(long, conflicts_with = "dtype")]
    adapter: bool,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let store = CheckpointStore::new(&self.run, 1);
        let path = store.choose(match (&self.checkpoint, &self.stage) {
            (Some(name), _) => CheckpointChoice::Named(name),
            (None, Some(stage)) => CheckpointChoice::BestOf(stage_index(&store.find(None)?, stage)?),
            (None, None) => CheckpointChoice::BestOfLastStage,
        })?;
        let (state, recipe) = match self.adapter {
            true => export_adapter(&path, &self.output)?,
            false => export_checkpoint(&self.run, &path, self.dtype, &self.output)?,
        };
        println!("wrote {} from {}: {}", self.output.display(), path.display(), described(&state, &recipe));
        Ok(())
    }
}

/// The index of a stage by its name in the checkpoint's recipe.
fn stage_index(checkpoint: &Path, name: &str) -> Result<usize> {
    let (_, recipe) = checkpoint::open(checkpoint)?;
    recipe.stages.iter().position(|stage| stage.name == name).ok_or_else(|| {
        let names: Vec<&str> = recipe.stages.iter().map(|stage| stage.name.as_str()).collect();
        Error::Usage(format!("--stage {name}: no such stage in the recipe; there are: {}", names.join(", ")))
    })
}

/// `stage long (2 of 2), step 40, held-out loss 3.1234, the stage's lowest`.
fn described(state: &TrainingState, recipe: &TrainingRecipe) -> String {
    let (index, step) = (state.position.stage(), state.step);
    let loss = match state.best_of(index) {
        Some(best) if best.step == step => {
            format!("held-out loss {:.4}, the stage's lowest up to then", best.loss)
        }
        Some(best) => {
            format!("the stage's lowest held-out loss was {:.4} after step {}", best.loss, best.step)
        }
        None => "its held-out loss was not measured".to_owned(),
    };
    let name = recipe.stages.get(index).map_or("", |stage| stage.name.as_str());
    format!("stage {name} ({} of {}), step {step}, {loss}", index + 1, recipe.stages.len())
}

/// Exports a checkpoint of a run; returns its state and recipe.
pub(super) fn export_checkpoint(
    run: &Path,
    checkpoint: &Path,
    precision: Precision,
    output: &Path,
) -> Result<(TrainingState, TrainingRecipe)> {
    let (state, recipe) = checkpoint::open(checkpoint)?;
    let config = recipe.config(state.position.stage());
    let tensors = checkpoint::read_tensors(checkpoint, &Parameters::of(&recipe)?)?;
    let mut weights = base::trained_model(&recipe, tensors.weights, state.frozen.as_deref())?;
    if let Some((first, keys)) = recipe.quantization()
        && state.position.stage() >= first
    {
        // What was trained is the rounded model; in f32 its numbers stay exact.
        if precision != Precision::F32 {
            return Err(Error::Usage(
                "--dtype: weights trained for an encoding are exact in f32 only; leave the flag out"
                    .to_owned(),
            ));
        }
        let parameters = Parameters::new(&config);
        let mut rounded = match &recipe.objective {
            ObjectiveKeys::Distill(_) => base::weights(&recipe, &parameters)?,
            _ => teacher::read(run, &parameters)?,
        };
        let rounding = StartFile::open(run)?.rounding(&parameters, &mut rounded, keys.scales)?;
        rounding.round(&weights, &mut rounded);
        weights = rounded;
    }
    let model = Export {
        config: &config,
        init_std: recipe.model.init_std,
        weights: &weights,
        tokenizer: &run.join("tokenizer"),
        end_of_document: state.end_of_document,
        precision,
    };
    export(&model, output)?;
    Ok((state, recipe))
}

/// Exports the adapter of a checkpoint; returns its state.
fn export_adapter(checkpoint: &Path, output: &Path) -> Result<(TrainingState, TrainingRecipe)> {
    let (state, recipe) = checkpoint::open(checkpoint)?;
    let Some(shape) = &recipe.adapter else {
        return Err(Error::Usage(
            "--adapter: the run trains the model itself, not an adapter; leave the flag out".to_owned(),
        ));
    };
    let parameters = Parameters::of(&recipe)?;
    let tensors = checkpoint::read_tensors(checkpoint, &parameters)?;
    // A base model that is no longer there leaves the adapter without a fingerprint; `thimble convert --base` adds it.
    let base = recipe.init_from.as_deref().and_then(|typed| init_from::open(typed).ok());
    let adapter = PeftAdapter {
        shape,
        parameters: &parameters,
        weights: &tensors.weights,
        base: recipe.init_from.as_deref().and_then(peft::loadable),
        base_hash: state.frozen.as_deref(),
        base_fingerprint: base.and_then(|base| thimble_converter::adapter::fingerprint(&base).ok()),
    };
    peft::write(&adapter, output)?;
    Ok((state, recipe))
}

//! `thimble-train export`.

use std::path::{Path, PathBuf};
use thimble_trainer::base;
use thimble_trainer::checkpoint::{self, CheckpointStore, TrainingState};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::export::{Export, export};
use thimble_trainer::model::Parameters;
use thimble_trainer::peft::{self, PeftAdapter};
use thimble_trainer::recipe::Precision;

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
    /// best, last, or the name of a folder in checkpoints/ [default: best, or last where there is no best]
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Number format of the weights
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
    /// Write only the adapter, as a folder that the PEFT library loads; --dtype does not apply
    #[arg(long, conflicts_with = "dtype")]
    adapter: bool,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let path = CheckpointStore::new(&self.run, 1).find_named_or_best(self.checkpoint.as_deref())?;
        let state = match self.adapter {
            true => export_adapter(&path, &self.output)?,
            false => export_checkpoint(&self.run, &path, self.dtype, &self.output)?,
        };
        println!("wrote {} from {} (step {})", self.output.display(), path.display(), state.step);
        Ok(())
    }
}

/// Exports a checkpoint of a run; returns its state.
pub(super) fn export_checkpoint(
    run: &Path,
    checkpoint: &Path,
    precision: Precision,
    output: &Path,
) -> Result<TrainingState> {
    let (state, recipe) = checkpoint::open(checkpoint)?;
    let config = recipe.config(state.position.stage());
    let tensors = checkpoint::read_tensors(checkpoint, &Parameters::of(&recipe)?)?;
    let weights = base::trained_model(&recipe, tensors.weights, state.frozen.as_deref())?;
    let model = Export {
        config: &config,
        init_std: recipe.model.init_std,
        weights: &weights,
        tokenizer: &run.join("tokenizer"),
        end_of_document: state.end_of_document,
        precision,
    };
    export(&model, output)?;
    Ok(state)
}

/// Exports the adapter of a checkpoint; returns its state.
fn export_adapter(checkpoint: &Path, output: &Path) -> Result<TrainingState> {
    let (state, recipe) = checkpoint::open(checkpoint)?;
    let Some(shape) = &recipe.adapter else {
        return Err(Error::Usage(
            "--adapter: the run trains the model itself, not an adapter; leave the flag out".to_owned(),
        ));
    };
    let parameters = Parameters::of(&recipe)?;
    let tensors = checkpoint::read_tensors(checkpoint, &parameters)?;
    let adapter = PeftAdapter {
        shape,
        parameters: &parameters,
        weights: &tensors.weights,
        base: recipe.init_from.as_deref(),
        base_hash: state.frozen.as_deref(),
    };
    peft::write(&adapter, output)?;
    Ok(state)
}

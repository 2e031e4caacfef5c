//! `thimble-train export`.

use std::path::PathBuf;
use thimble_trainer::checkpoint::{self, CheckpointStore};
use thimble_trainer::error::Result;
use thimble_trainer::export::{Export, export};
use thimble_trainer::model::Parameters;
use thimble_trainer::recipe::Precision;

/// Write a checkpoint as a Hugging Face folder.
///
/// config.json, generation_config.json, model.safetensors and the tokenizer's files: `transformers` loads it and
/// `thimble convert` makes a file of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The run folder
    run: PathBuf,
    /// The folder to write; must not exist
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// best, last, or the name of a folder in checkpoints/; unless given, best where there is one
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Number format of the weights
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let store = CheckpointStore::new(&self.run, 1);
        let path = match &self.checkpoint {
            Some(name) => store.find(Some(name))?,
            None => store.find(Some("best")).or_else(|_| store.find(None))?,
        };
        let (state, recipe) = checkpoint::open(&path)?;
        let numbers = checkpoint::read_tensors(&path, &Parameters::new(&recipe.model))?;
        let tokenizer = self.run.join("tokenizer");
        export(
            &Export {
                shape: &recipe.model,
                theta: recipe.theta(state.position.stage),
                weights: &numbers.weights,
                tokenizer: &tokenizer,
                end_of_document: state.end_of_document,
                precision: self.dtype,
            },
            &self.output,
        )?;
        println!("wrote {} from {} (step {})", self.output.display(), path.display(), state.step);
        Ok(())
    }
}

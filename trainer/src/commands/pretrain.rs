//! `thimble-train pretrain`.

use super::run_flags::RunFlags;
use super::tuning::finish;
use thimble_trainer::error::Result;
use thimble_trainer::recipe::ObjectiveKeys;

/// Train a model as a recipe says.
///
/// Ctrl-C or SIGTERM finishes the step, writes a checkpoint and exits with 130; --resume continues bit for bit, also
/// after a kill. The run's README.md has the command that resumes it; its own recipe.toml holds every override.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// A recipe's file, or the name of a built-in one (tiny-cpu, smollm2-70m, ...)
    recipe: String,
    #[command(flatten)]
    run: RunFlags,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.run.load(&self.recipe)?;
        let run = self.run.folder(&recipe);
        self.run.train(&recipe)?;
        match recipe.objective {
            // As the commands end that tune a model.
            ObjectiveKeys::Sft(_) | ObjectiveKeys::Dpo(_) => finish(&run),
            ObjectiveKeys::Pretrain | ObjectiveKeys::Distill(_) => Ok(()),
        }
    }
}

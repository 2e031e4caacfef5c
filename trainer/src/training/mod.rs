//! The training loop: draw, accumulate, guard, update, report, measure, save.

mod changes;
mod guard;
mod open;
mod run;
mod run_folder;
mod sample;
mod skip;
mod start;
mod step;
mod stop;
mod validation;

pub use run::TrainingOptions;
pub use run_folder::claim;
pub use stop::{RunPhase, StopRequest};

use crate::checkpoint::BestValidation;
use crate::error::Result;
use crate::ops::{BufferLengths, Ops};
use crate::recipe::TrainingRecipe;
use run::Run;
use thimble_runtime::format::Config;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunOutcome {
    /// Steps finished.
    pub step: u64,
    /// Steps of the whole recipe; more than `step` where it was stopped.
    pub steps: u64,
    /// The best held-out measurement of the last stage that has one.
    pub best: Option<BestValidation>,
}

/// Trains as the recipe says, on the device that `device` makes for a model and its number of parameters.
///
/// # Errors
/// The data does not fit the recipe, the run folder holds another run, a file cannot be written, or the guard stopped
/// the run; the newest checkpoint is then whole.
pub fn train<O: Ops>(
    recipe: &TrainingRecipe,
    settings: &TrainingOptions,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<RunOutcome> {
    let mut run = Run::open(recipe, settings, device)?;
    // Random weights have nothing to show.
    if run.state.step == 0 && recipe.init_from.is_some() {
        run.measure()?;
    }
    settings.stop.enter(RunPhase::Training);
    while run.state.step < run.total {
        run.step()?;
        let stopped = settings.stop.asked();
        // The best model is saved at once.
        let best = run.measure()?;
        let due = run.state.step.is_multiple_of(recipe.checkpoint.every) || std::mem::take(&mut run.save_due);
        if stopped || best || due || run.state.step == run.total {
            run.save()?;
        }
        if stopped && run.state.step < run.total {
            break;
        }
    }
    if run.state.step == run.total {
        settings.stop.enter(RunPhase::Finished);
    }
    run.progress.finish();
    Ok(RunOutcome { step: run.state.step, steps: run.total, best: run.state.best.last().copied() })
}

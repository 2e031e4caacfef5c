//! A run: its engine, objective, state and files.

use super::guard::LossGuard;
use super::sample::SampleWriter;
use super::stop::StopRequest;
use crate::checkpoint::{CheckpointStore, TrainingState, TrainingTensors};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::objective::Objective;
use crate::ops::{Buffer, Ops};
use crate::recipe::TrainingRecipe;
use crate::report::metrics::MetricsFile;
use crate::report::progress::Progress;
use crate::report::recovery::SkippedFile;
use crate::report::tensorboard::EventFile;
use std::fs::File;
use std::path::PathBuf;

/// Rows of a step's data that a message lists.
const ROWS_SHOWN: usize = 16;

/// Options of a run besides its recipe; only `skip_step` changes the numbers.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// The run folder.
    pub run: PathBuf,
    /// Resume from the newest checkpoint.
    pub resume: bool,
    /// Skip the first step of a resumed run.
    pub skip_step: bool,
    /// The `KEY=VALUE` overrides of the command: only a key named here may differ from a resumed run's.
    pub overrides: Vec<String>,
    /// Show no progress.
    pub quiet: bool,
    /// Asked by a signal: finish the step, write a checkpoint, end.
    pub stop: StopRequest,
    /// The device's peak in 1e12 FLOPs per second, for the MFU.
    pub peak_tflops: Option<f64>,
    /// The command that resumes the run, for messages and the run's README.
    pub command: String,
    /// Threads that compute, for the run's README.
    pub threads: usize,
}

pub(super) struct Run<'a, O> {
    pub(super) recipe: &'a TrainingRecipe,
    pub(super) recipe_text: String,
    pub(super) settings: &'a TrainingOptions,
    pub(super) engine: Engine<O>,
    pub(super) objective: Box<dyn Objective<O>>,
    pub(super) sampler: Option<SampleWriter>,
    pub(super) store: CheckpointStore,
    pub(super) state: TrainingState,
    pub(super) guard: LossGuard,
    /// Whether the next step is to be skipped.
    pub(super) skip: bool,
    /// Whether the last step must be saved at once.
    pub(super) save_due: bool,
    pub(super) skipped: SkippedFile,
    /// Steps of all stages.
    pub(super) total: u64,
    /// Stage of the last step.
    pub(super) stage: Option<usize>,
    pub(super) metrics: MetricsFile,
    pub(super) events: EventFile,
    pub(super) progress: Progress,
    pub(super) tensors: TrainingTensors,
    /// Held as long as the run lives.
    pub(super) _lock: File,
}

impl<O: Ops> Run<'_, O> {
    /// The error where the last step corrupted the weights, which are then not saved.
    pub(super) fn corrupted(&mut self, trouble: &str) -> Error {
        self.progress.finish();
        let (recipe, data) = (self.recipe, self.described_data());
        Error::Invalid(format!(
            "after step {} of stage `{}`: {trouble}. This step was discarded; {}. Start another run with a lower learning \
             rate or optimizer.clip. The step's data:\n{}",
            self.state.step,
            recipe.stages[self.stage.unwrap_or(0)].name,
            self.remaining_checkpoint(),
            data
        ))
    }

    /// Where the last step's data come from, as many lines as a person reads.
    pub(super) fn described_data(&mut self) -> String {
        let rows = self.objective.describe();
        let mut shown: Vec<String> = rows.iter().take(ROWS_SHOWN).map(|row| format!("  {row}")).collect();
        if rows.len() > ROWS_SHOWN {
            shown.push(format!("  and {} rows more", rows.len() - ROWS_SHOWN));
        }
        shown.join("\n")
    }

    /// The checkpoint that remains.
    pub(super) fn remaining_checkpoint(&self) -> String {
        match self.newest() {
            Some(step) => format!("the checkpoint of step {step} is intact"),
            None => "there is no checkpoint yet".to_owned(),
        }
    }

    /// The step of the newest checkpoint.
    pub(super) fn newest(&self) -> Option<u64> {
        self.store.steps().ok()?.last().copied()
    }

    pub(super) fn save(&mut self) -> Result<()> {
        self.engine.read(Buffer::Weights, &mut self.tensors.weights)?;
        self.engine.read(Buffer::FirstMoment, &mut self.tensors.first_moment)?;
        self.engine.read(Buffer::SecondMoment, &mut self.tensors.second_moment)?;
        let TrainingTensors { weights, first_moment, second_moment } = &self.tensors;
        if [weights, first_moment, second_moment].iter().any(|values| values.iter().any(|x| !x.is_finite())) {
            return Err(self.corrupted("weights or moments are no longer finite"));
        }
        self.state.losses = self.guard.losses();
        self.metrics.sync()?;
        self.store.save(self.engine.parameters(), &self.state, &self.tensors, &self.recipe_text)?;
        Ok(())
    }
}

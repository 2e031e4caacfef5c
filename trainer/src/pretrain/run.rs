//! A run: its engine, data, state and files, from opening to saving.

use super::guard::LossGuard;
use super::run_folder;
use super::sample::SampleWriter;
use crate::atomic_file::write_atomically;
use crate::checkpoint::{self, CheckpointStore, TrainingState, TrainingTensors};
use crate::data::TrainingBatch;
use crate::data::loader::{Loader, ValidationSet};
use crate::error::{Error, Result};
use crate::export::copy_tokenizer;
use crate::model::{Engine, EngineOptions, Parameters, Passes, init};
use crate::ops::{Buffer, Ops};
use crate::recipe::TrainingRecipe;
use crate::report::metrics::MetricsFile;
use crate::report::progress::Progress;
use crate::report::readme::{self, RunStart, RunSummary};
use crate::report::tensorboard::EventFile;
use crate::shell::quote;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use thimble_runtime::format::Config;

/// Options of a run besides its recipe; none of them changes the numbers.
#[derive(Clone, Debug)]
pub struct PretrainOptions {
    /// The run folder.
    pub run: PathBuf,
    /// Resume from the newest checkpoint.
    pub resume: bool,
    /// Show no progress.
    pub quiet: bool,
    /// Set by a signal: finish the step, write a checkpoint, end.
    pub stop: Arc<AtomicBool>,
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
    pub(super) settings: &'a PretrainOptions,
    pub(super) engine: Engine<O>,
    pub(super) loader: Loader,
    pub(super) validation: Option<ValidationSet>,
    pub(super) sampler: Option<SampleWriter>,
    pub(super) store: CheckpointStore,
    pub(super) state: TrainingState,
    pub(super) guard: LossGuard,
    /// Steps of all stages.
    pub(super) total: u64,
    /// Stage of the last step.
    pub(super) stage: Option<usize>,
    pub(super) batch: TrainingBatch,
    pub(super) metrics: MetricsFile,
    pub(super) events: EventFile,
    pub(super) progress: Progress,
    pub(super) tensors: TrainingTensors,
    /// Held as long as the run lives.
    pub(super) _lock: File,
}

impl<'a, O: Ops> Run<'a, O> {
    pub(super) fn open(
        recipe: &'a TrainingRecipe,
        settings: &'a PretrainOptions,
        device: impl FnOnce(&Config, usize) -> Result<O>,
    ) -> Result<Self> {
        let loader = Loader::open(recipe)?;
        let validation = loader.validation()?;
        let total = (0..recipe.stages.len()).map(|stage| loader.steps(stage)).sum();
        let recipe_text = recipe.to_toml()?;
        let run = &settings.run;
        run_folder::check(run)?;
        std::fs::create_dir_all(run).map_err(Error::file(run, "create"))?;
        let lock = run_folder::lock(run)?;
        let store = CheckpointStore::new(run, recipe.checkpoint.last);
        let from = match (store.steps()?.last(), settings.resume) {
            (Some(step), false) => {
                return Err(Error::Usage(format!(
                    "{} holds a run that reached step {step}: `{}` continues it; or choose another folder with --run",
                    settings.run.display(),
                    settings.command
                )));
            }
            (Some(_), true) => Some(store.find(None)?),
            // A run that was killed before its first checkpoint starts again, with the same result.
            (None, true) => {
                // Not a note, which --quiet suppresses: the folder may be misspelled.
                eprintln!(
                    "warning: --resume found no checkpoint in {}: a new run begins there at step 0",
                    settings.run.display()
                );
                None
            }
            (None, false) => None,
        };
        let parameters = Parameters::new(&recipe.model.config());
        let mut loader = loader;
        let (state, tensors) = match &from {
            None => {
                let zeros = vec![0.0; parameters.len];
                let weights = init::weights(&parameters, recipe.model.init_std, recipe.seed);
                let tensors = TrainingTensors { weights, first_moment: zeros.clone(), second_moment: zeros };
                let state =
                    TrainingState::new(loader.position(), loader.tokenizer_hash(), loader.end_of_document());
                (state, tensors)
            }
            Some(path) => {
                let (state, then) = checkpoint::open(path)?;
                run_folder::require_same_recipe(&then, recipe, &settings.command)?;
                if state.tokenizer != loader.tokenizer_hash() {
                    return Err(Error::Invalid(format!(
                        "the token sets were made with another tokenizer (hash {}) than this run (hash {}): restore the \
                         original sets, or start a new run with --run",
                        loader.tokenizer_hash(),
                        state.tokenizer
                    )));
                }
                loader.seek(&state.position)?;
                (state, checkpoint::read_tensors(path, &parameters)?)
            }
        };
        let config = recipe.model.config();
        let ops = device(&config, parameters.len)?;
        let mut engine = Engine::new(&config, EngineOptions::of(recipe), ops);
        engine.write(Buffer::Weights, &tensors.weights)?;
        engine.write(Buffer::FirstMoment, &tensors.first_moment)?;
        engine.write(Buffer::SecondMoment, &tensors.second_moment)?;
        for stage in &recipe.stages {
            engine.reserve(stage.micro_batch, stage.context, Passes::Both)?;
        }

        let tokenizer = run.join("tokenizer");
        std::fs::create_dir_all(&tokenizer).map_err(Error::file(&tokenizer, "create"))?;
        if let Some(source) = loader.tokenizer_folder() {
            copy_tokenizer(source, &tokenizer)?;
        }
        write_atomically(&run.join(checkpoint::RECIPE), recipe_text.as_bytes())?;
        let sampler = match &recipe.sample {
            Some(sample) => Some(SampleWriter::new(sample, &tokenizer, loader.end_of_document(), recipe)?),
            None => None,
        };
        let metrics = match state.step {
            0 => MetricsFile::create(run)?,
            step => MetricsFile::resume(run, step)?,
        };
        let events = EventFile::create(run, state.step)?;
        let [shown, export, plot] = [run, &run.join("export"), &run.join("plot.svg")].map(|path| quote(path));
        let summary = RunSummary {
            recipe,
            parameters: parameters.len as u64,
            total_steps: total,
            resume: &settings.command,
            export: &format!("thimble-train export {shown} -o {export}"),
            plot: &format!("thimble-train plot {shown} -o {plot}"),
            files: &[
                ("recipe.toml", "the recipe with every override"),
                ("tokenizer/", "the tokenizer of the token sets"),
                (
                    "checkpoints/",
                    "the newest checkpoints and the best; the files `last` and `best` there name them",
                ),
            ],
        };
        readme::write(
            run,
            &summary,
            &RunStart { step: state.step, device: &engine.device(), threads: settings.threads },
        )?;
        let progress = Progress::new(total, settings.quiet);
        if let Some(path) = &from {
            progress.note(&format!("resuming after step {} from {}", state.step, path.display()));
        }
        Ok(Run {
            guard: LossGuard::new(&recipe.guard, &state.losses),
            recipe,
            recipe_text,
            settings,
            engine,
            loader,
            validation,
            sampler,
            store,
            state,
            total,
            stage: None,
            batch: TrainingBatch::default(),
            metrics,
            events,
            progress,
            tensors,
            _lock: lock,
        })
    }

    /// The error where the last step corrupted the weights, which are then not saved.
    pub(super) fn corrupted(&mut self, trouble: &str) -> Error {
        self.progress.finish();
        Error::Invalid(format!(
            "after step {}: {trouble}. This step was discarded; {}. Start another run with a lower learning rate or \
             optimizer.clip. Last batch:\n{}",
            self.state.step,
            self.remaining_checkpoint(),
            self.loader.describe_last_batch()
        ))
    }

    /// The checkpoint that remains.
    pub(super) fn remaining_checkpoint(&self) -> String {
        match self.store.steps().ok().and_then(|steps| steps.last().copied()) {
            Some(step) => format!("the checkpoint of step {step} is intact"),
            None => "there is no checkpoint yet".to_owned(),
        }
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

//! Opening a run: a new one, or from its newest checkpoint.

use super::guard::LossGuard;
use super::run::{Run, TrainingOptions};
use super::run_folder;
use super::sample::SampleWriter;
use crate::atomic_file::write_atomically;
use crate::checkpoint::{self, CheckpointStore, TrainingState, TrainingTensors};
use crate::error::{Error, Result};
use crate::export::copy_tokenizer;
use crate::model::{Engine, EngineOptions, Parameters, Passes, init};
use crate::objective::{self, Preparation};
use crate::ops::{Buffer, Ops};
use crate::recipe::TrainingRecipe;
use crate::report::metrics::MetricsFile;
use crate::report::progress::Progress;
use crate::report::readme::{self, RunStart, RunSummary};
use crate::report::tensorboard::EventFile;
use crate::shell::quote;
use thimble_runtime::format::Config;

/// The weights that a run begins with.
fn initial_weights(recipe: &TrainingRecipe, parameters: &Parameters) -> Result<Vec<f32>> {
    if let Some(source) = &recipe.init_from {
        return Err(Error::Invalid(format!(
            "init_from = {source:?}: this program cannot begin with the weights of a model"
        )));
    }
    Ok(init::weights(parameters, recipe.model.init_std, recipe.seed))
}

impl<'a, O: Ops> Run<'a, O> {
    pub(super) fn open(
        recipe: &'a TrainingRecipe,
        settings: &'a TrainingOptions,
        device: impl FnOnce(&Config, usize) -> Result<O>,
    ) -> Result<Self> {
        let mut objective = objective::open::<O>(recipe)?;
        let total = (0..recipe.stages.len()).map(|stage| objective.steps(stage)).sum();
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
        let initial_weights = || initial_weights(recipe, &parameters);
        let (state, tensors) = match &from {
            None => {
                let zeros = vec![0.0; parameters.len];
                let weights = initial_weights()?;
                let tensors = TrainingTensors { weights, first_moment: zeros.clone(), second_moment: zeros };
                let tokenizer = objective.tokenizer();
                let state = TrainingState::new(objective.position(), tokenizer.hash, tokenizer.end);
                (state, tensors)
            }
            Some(path) => {
                let (state, then) = checkpoint::open(path)?;
                run_folder::require_same_recipe(&then, recipe, &settings.command)?;
                let found = objective.tokenizer().hash;
                if state.tokenizer != found {
                    return Err(Error::Invalid(format!(
                        "the data were made with another tokenizer (hash {found}) than this run (hash {}): restore the \
                         original data, or start a new run with --run",
                        state.tokenizer
                    )));
                }
                objective.seek(&state.position)?;
                (state, checkpoint::read_tensors(path, &parameters)?)
            }
        };
        let config = recipe.model.config();
        let ops = device(&config, parameters.len)?;
        let mut engine = Engine::new(&config, EngineOptions::of(recipe), ops);
        engine.write(Buffer::Weights, &tensors.weights)?;
        engine.write(Buffer::FirstMoment, &tensors.first_moment)?;
        engine.write(Buffer::SecondMoment, &tensors.second_moment)?;
        for stage in 0..recipe.stages.len() {
            let (sequences, context) = objective.shape(stage);
            engine.reserve(sequences, context, Passes::Both)?;
        }
        objective.prepare(&mut engine, Preparation { run, initial_weights: &initial_weights })?;

        let tokenizer = run.join("tokenizer");
        std::fs::create_dir_all(&tokenizer).map_err(Error::file(&tokenizer, "create"))?;
        if let Some(source) = objective.tokenizer().folder {
            copy_tokenizer(source, &tokenizer)?;
        }
        write_atomically(&run.join(checkpoint::RECIPE), recipe_text.as_bytes())?;
        let end = objective.tokenizer().end;
        let sampler = match &recipe.sample {
            Some(sample) => Some(SampleWriter::new(sample, &tokenizer, end, recipe)?),
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
                ("tokenizer/", "the tokenizer of the data"),
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
            objective,
            sampler,
            store,
            state,
            total,
            stage: None,
            metrics,
            events,
            progress,
            tensors,
            _lock: lock,
        })
    }
}

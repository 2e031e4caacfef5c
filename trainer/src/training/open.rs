//! Opening a run: a new one, or from its newest checkpoint.

use super::changes::Resumed;
use super::guard::LossGuard;
use super::run::{Run, TrainingOptions};
use super::run_folder;
use super::sample::SampleWriter;
use super::start::StartTensors;
use crate::atomic_file::write_atomically;
use crate::base;
use crate::checkpoint::{self, CheckpointStore, TrainingState};
use crate::error::{Error, Result};
use crate::export::copy_tokenizer;
use crate::model::{Engine, EngineOptions, Parameters, Passes};
use crate::objective::reference::hash_weights;
use crate::objective::{self, Preparation};
use crate::ops::{BufferLengths, Ops};
use crate::recipe::{ObjectiveKeys, TrainingRecipe};
use crate::report::metrics::{MetricsEvent, MetricsFile, StartRecord};
use crate::report::progress::Progress;
use crate::report::readme::{self, RunStart, RunSummary};
use crate::report::recovery::{HISTORY, SKIPPED, SkippedFile};
use crate::report::tensorboard::EventFile;
use thimble_runtime::format::Config;

impl<'a, O: Ops> Run<'a, O> {
    pub(super) fn open(
        recipe: &'a TrainingRecipe,
        settings: &'a TrainingOptions,
        device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
    ) -> Result<Self> {
        let mut objective = objective::open::<O>(recipe)?;
        let total = (0..recipe.stages.len()).map(|stage| objective.steps(stage)).sum();
        let recipe_text = recipe.with_absolute_paths()?.to_toml()?;
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
            (None, true) if settings.skip_step => {
                return Err(Error::Usage(format!(
                    "--skip-step: expected a run that has stopped, found no checkpoint in {}",
                    run.display()
                )));
            }
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
        let parameters = Parameters::of(recipe)?;
        let mut changes = Vec::new();
        let (mut state, start) = match &from {
            None => {
                let start = StartTensors::first(recipe, &parameters)?;
                let tokenizer = objective.tokenizer();
                let state = TrainingState::new(objective.position(), tokenizer.hash, tokenizer.end);
                (TrainingState { frozen: start.frozen.clone(), ..state }, start)
            }
            Some(path) => {
                let (state, then) = checkpoint::open(path)?;
                let resumed = Resumed {
                    run,
                    step: state.step,
                    overrides: &settings.overrides,
                    command: &settings.command,
                };
                changes = resumed.changes(&then, recipe)?;
                let found = objective.tokenizer().hash;
                if state.tokenizer != found {
                    return Err(Error::Invalid(format!(
                        "the data were made with another tokenizer (hash {found}) than this run (hash {}): restore the \
                         original data, or start a new run with --run",
                        state.tokenizer
                    )));
                }
                objective.seek(&state.position)?;
                let start = StartTensors::resumed(recipe, &parameters, (path, &state))?;
                (state, start)
            }
        };
        let initial_weights = || base::weights(recipe, &parameters);
        if let ObjectiveKeys::Dpo(_) | ObjectiveKeys::Distill(_) = recipe.objective {
            let initial = hash_weights(&initial_weights()?);
            if state.initial.as_ref().is_some_and(|then| *then != initial) {
                return Err(Error::Invalid(format!(
                    "the run began with other weights than init_from = {:?} has now: restore that model, or start a new run \
                     with --run",
                    recipe.init_from.as_deref().unwrap_or_default()
                )));
            }
            state.initial = Some(initial);
        }
        if settings.skip_step && state.step >= total {
            return Err(Error::Usage(format!(
                "--skip-step: all {total} steps are done, there is none to skip"
            )));
        }
        let config = recipe.model.config();
        let ops = device(&config, parameters.lengths())?;
        let mut engine = Engine::with(&config, parameters.clone(), EngineOptions::of(recipe), ops);
        let tensors = start.write(&mut engine)?;
        for stage in 0..recipe.stages.len() {
            let (sequences, context) = objective.shape(stage);
            engine.reserve(sequences, context, Passes::Both)?;
        }
        objective.prepare(
            &mut engine,
            Preparation {
                run,
                initial_weights: &initial_weights,
                fresh: from.is_none(),
                quiet: settings.quiet,
            },
        )?;

        let tokenizer = run.join("tokenizer");
        if from.is_none() && tokenizer.is_dir() {
            // An earlier attempt may have been of another model.
            std::fs::remove_dir_all(&tokenizer).map_err(Error::file(&tokenizer, "remove"))?;
        }
        std::fs::create_dir_all(&tokenizer).map_err(Error::file(&tokenizer, "create"))?;
        base::write_files(recipe, &tokenizer)?;
        if let (None, Some(source)) = (&recipe.init_from, objective.tokenizer().folder) {
            copy_tokenizer(source, &tokenizer)?;
        }
        write_atomically(&run.join(checkpoint::RECIPE), recipe_text.as_bytes())?;
        let end = objective.tokenizer().end;
        let sampler = recipe
            .sample
            .as_ref()
            .map(|sample| SampleWriter::new(sample, recipe, &tokenizer, end))
            .transpose()?;
        let mut metrics = match state.step {
            0 => MetricsFile::create(run)?,
            step => MetricsFile::resume(run, step)?,
        };
        let model_parameters = Parameters::new(&config).len as u64;
        metrics.write(&MetricsEvent::Start(StartRecord {
            step: state.step,
            total_steps: total,
            parameters: model_parameters,
            trainable: parameters.trainable as u64,
            device: engine.device(),
            threads: settings.threads as u64,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))?;
        let events = EventFile::create(run, state.step)?;
        let summary = RunSummary {
            recipe,
            parameters: model_parameters,
            trained: parameters.trainable as u64,
            total_steps: total,
            run,
            resume: &settings.command,
            files: &[
                ("recipe.toml", "the recipe with every override"),
                ("tokenizer/", "the tokenizer of the data"),
                (
                    "checkpoints/",
                    "the newest checkpoints and each stage's best by held-out loss, which is compared within a stage only; \
                     `last` names the newest, `best` the best of the last stage measured, `best-stage-N` of an earlier one",
                ),
                (SKIPPED, "steps that were not trained on, with their data"),
                (HISTORY, "changes of the recipe at a resume; missing where there was none"),
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
        for change in &changes {
            progress.note(&format!("{}: {} instead of {}", change.key, change.to, change.from));
        }
        Ok(Run {
            guard: LossGuard::new(&recipe.guard, &state.losses),
            skip: settings.skip_step,
            save_due: false,
            skipped: SkippedFile::open(run, state.step)?,
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

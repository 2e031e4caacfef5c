//! The training loop: draw, accumulate, guard, update, report, measure, keep.

mod guard;
mod sample;

use crate::checkpoint::{self, BestValidation, CheckpointStore, TrainingState, TrainingTensors};
use crate::data::Batch;
use crate::data::loader::{Loader, LoaderPosition, ValidationSet};
use crate::data::token_set::write_atomically;
use crate::error::{Error, Result};
use crate::export::copy_tokenizer;
use crate::model::Passes;
use crate::model::{Engine, EngineOptions, init};
use crate::ops::{AdamW, Buffer, Ops};
use crate::plan::Flops;
use crate::recipe::{DataMix, ModelShape, Stage, TrainingRecipe};
use crate::report::folder::{self, About, Start};
use crate::report::metrics::{MetricsEvent, MetricsFile, SampleText, Step, ValidationPoint};
use crate::report::progress::Progress;
use crate::report::tensorboard::EventFile;
use guard::Guard;
use sample::Sampler;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// In every run folder.
const LOCK: &str = ".lock";

/// What a run is told beside its recipe; nothing here changes the numbers.
#[derive(Clone, Debug)]
pub struct PretrainOptions {
    /// The run folder.
    pub run: PathBuf,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// Show no progress.
    pub quiet: bool,
    /// Set by a signal: finish the step, write a checkpoint, end.
    pub stop: Arc<AtomicBool>,
    /// The device's peak in 1e12 FLOPs per second, for the MFU.
    pub peak_tflops: Option<f64>,
    /// The command that goes on with the run: for the run's README, and where another one does not.
    pub command: String,
    /// Threads that compute, for the run's README.
    pub threads: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunOutcome {
    /// Steps finished.
    pub step: u64,
    /// Steps of the whole recipe; more than `step` where it was stopped.
    pub steps: u64,
    /// The best held-out measurement.
    pub best: Option<BestValidation>,
}

/// Trains as the recipe says, on the device that `device` makes for a shape and its number of parameters.
///
/// # Errors
/// The data does not fit the recipe, the run folder holds another run, a file cannot be written, or the guard stopped
/// the run; the newest checkpoint is then whole.
pub fn pretrain<O: Ops>(
    recipe: &TrainingRecipe,
    settings: &PretrainOptions,
    device: impl FnOnce(&ModelShape, usize) -> Result<O>,
) -> Result<RunOutcome> {
    let mut run = Run::open(recipe, settings, device)?;
    while run.state.step < run.total {
        run.step()?;
        let stopped = settings.stop.load(Ordering::Relaxed);
        // The best one is kept at once.
        let best = run.measure()?;
        let due = run.state.step.is_multiple_of(recipe.checkpoint.every);
        if stopped || best || due || run.state.step == run.total {
            run.save()?;
        }
        if stopped && run.state.step < run.total {
            break;
        }
    }
    run.progress.finish();
    Ok(RunOutcome { step: run.state.step, steps: run.total, best: run.state.best })
}

struct Run<'a, O> {
    recipe: &'a TrainingRecipe,
    recipe_text: String,
    settings: &'a PretrainOptions,
    engine: Engine<O>,
    loader: Loader,
    validation: Option<ValidationSet>,
    sampler: Option<Sampler>,
    store: CheckpointStore,
    state: TrainingState,
    guard: Guard,
    /// Steps of all stages.
    total: u64,
    /// Stage of the last step.
    stage: Option<usize>,
    batch: Batch,
    metrics: MetricsFile,
    events: EventFile,
    progress: Progress,
    numbers: TrainingTensors,
    /// The run folder is this process's as long as it lives.
    _lock: File,
}

impl<'a, O: Ops> Run<'a, O> {
    fn open(
        recipe: &'a TrainingRecipe,
        settings: &'a PretrainOptions,
        device: impl FnOnce(&ModelShape, usize) -> Result<O>,
    ) -> Result<Self> {
        let loader = Loader::open(recipe)?;
        let validation = loader.validation()?;
        let total = (0..recipe.stages.len()).map(|stage| loader.steps(stage)).sum();
        let recipe_text = recipe.to_toml()?;
        let run = &settings.run;
        own(run)?;
        std::fs::create_dir_all(run).map_err(Error::file(run, "create"))?;
        let lock = lock(run)?;
        let store = CheckpointStore::new(run, recipe.checkpoint.last);
        let from = match (store.steps()?.last(), settings.resume) {
            (Some(step), false) => {
                return Err(Error::Usage(format!(
                    "{} holds a run that came to step {step}: `{}` goes on with it; or name another folder with --run",
                    settings.run.display(),
                    settings.command
                )));
            }
            (Some(_), true) => Some(store.find(None)?),
            // A run that was killed before its first checkpoint begins again, and comes to the same.
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
        let parameters = crate::model::Parameters::new(&recipe.model);
        let mut loader = loader;
        let (state, numbers) = match &from {
            None => {
                let zeros = vec![0.0; parameters.len];
                let weights = init::weights(&recipe.model, &parameters, recipe.seed);
                let numbers = TrainingTensors { weights, first_moment: zeros.clone(), second_moment: zeros };
                let state =
                    TrainingState::new(loader.position(), loader.tokenizer_hash(), loader.end_of_document());
                (state, numbers)
            }
            Some(path) => {
                let (state, then) = checkpoint::open(path)?;
                same_recipe(&then, recipe, &settings.command)?;
                if state.tokenizer != loader.tokenizer_hash() {
                    return Err(Error::Invalid(format!(
                        "the run was begun with the tokenizer of hash {}, the token sets are of {}: put the former sets back",
                        state.tokenizer,
                        loader.tokenizer_hash()
                    )));
                }
                loader.seek(&state.position)?;
                (state, checkpoint::read_tensors(path, &parameters)?)
            }
        };
        let ops = device(&recipe.model, parameters.len)?;
        let options = EngineOptions {
            activation_checkpointing: recipe.compute.activation_checkpointing,
            document_mask: recipe.compute.document_mask,
            z_loss: recipe.optimizer.z_loss,
        };
        let mut engine = Engine::new(&recipe.model, options, ops);
        engine.write(Buffer::Weights, &numbers.weights)?;
        engine.write(Buffer::FirstMoment, &numbers.first_moment)?;
        engine.write(Buffer::SecondMoment, &numbers.second_moment)?;
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
            Some(sample) => Some(Sampler::new(sample, &tokenizer, loader.end_of_document(), recipe)?),
            None => None,
        };
        let metrics = match state.step {
            0 => MetricsFile::create(run)?,
            step => MetricsFile::resume(run, step)?,
        };
        let events = EventFile::create(run, state.step)?;
        let shown = run.display();
        let about = About {
            recipe,
            parameters: parameters.len as u64,
            total_steps: total,
            resume: &settings.command,
            export: &format!("thimble-train export {shown} -o {shown}/export"),
            plot: &format!("thimble-train plot {shown} -o {shown}/plot.svg"),
            files: &[
                ("recipe.toml", "the recipe with every override"),
                ("tokenizer/", "the tokenizer of the token sets"),
                (
                    "checkpoints/",
                    "the newest checkpoints and the best; the files `last` and `best` there name them",
                ),
            ],
        };
        folder::write(
            run,
            &about,
            &Start { step: state.step, device: &engine.device(), threads: settings.threads },
        )?;
        let progress = Progress::new(total, settings.quiet);
        if let Some(path) = &from {
            progress.note(&format!("going on after step {} from {}", state.step, path.display()));
        }
        Ok(Run {
            guard: Guard::new(&recipe.guard, &state.losses),
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
            batch: Batch::default(),
            metrics,
            events,
            progress,
            numbers,
            _lock: lock,
        })
    }

    /// The stage of a step, and the steps of the run before that stage.
    fn stage_of(&self, step: u64) -> (usize, u64) {
        let mut before = 0;
        for stage in 0..self.recipe.stages.len() {
            let steps = self.loader.steps(stage);
            if step < before + steps {
                return (stage, before);
            }
            before += steps;
        }
        (self.recipe.stages.len() - 1, before - self.loader.steps(self.recipe.stages.len() - 1))
    }

    /// Sets what a stage changes: the rotary base, and the moments where it asks for that.
    fn enter(&mut self, index: usize, first_step: bool) -> Result<()> {
        if self.stage == Some(index) {
            return Ok(());
        }
        self.stage = Some(index);
        self.engine.set_theta(theta(self.recipe, index));
        let stage = &self.recipe.stages[index];
        self.progress.note(&format!(
            "stage {}: {} steps of {} tokens, context {}",
            stage.name,
            self.loader.steps(index),
            stage.tokens_per_step(),
            stage.context
        ));
        if stage.reset_optimizer && first_step && index > 0 {
            let zeros = vec![0.0; self.engine.parameters().len];
            self.engine.write(Buffer::FirstMoment, &zeros)?;
            self.engine.write(Buffer::SecondMoment, &zeros)?;
            self.state.optimizer_step = 0;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let start = Instant::now();
        let (index, before) = self.stage_of(self.state.step);
        self.enter(index, self.state.step == before)?;
        let stage = &self.recipe.stages[index];
        let tokens = stage.tokens_per_step();
        let learning_rate = stage.schedule.at(self.state.step - before, self.loader.steps(index));
        let position = self.loader.position();
        self.engine.zero_gradients()?;
        let mut sum = 0.0;
        for _ in 0..stage.accumulate {
            self.loader.next(index, stage.micro_batch, stage.context, &mut self.batch)?;
            sum += self.engine.accumulate(&self.batch, 1.0 / tokens as f64)?;
        }
        let loss = sum / tokens as f64;
        let norm = self.engine.gradient_norm()?;
        if let Some(trouble) = self.guard.check(loss, norm) {
            return Err(self.trouble(&trouble, index, position));
        }
        let optimizer = &self.recipe.optimizer;
        self.state.optimizer_step += 1;
        self.engine.update(AdamW {
            learning_rate,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            step: self.state.optimizer_step,
            gradient_scale: AdamW::clip(norm, optimizer.clip),
            decayed: self.engine.parameters().matrices,
        })?;
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.position = self.loader.position();
        let seconds = start.elapsed().as_secs_f64();
        let tokens_per_second = tokens as f64 / seconds;
        let flops = Flops::of(&self.recipe.model, stage.context).causal() as f64;
        let step = Step {
            step: self.state.step,
            stage: stage.name.clone(),
            loss,
            learning_rate,
            gradient_norm: norm,
            tokens: self.state.tokens,
            tokens_per_second,
            mfu: self.settings.peak_tflops.map(|peak| flops * tokens_per_second / (peak * 1e12)),
            seconds,
        };
        self.events.step(&step)?;
        self.progress.step(&step);
        self.metrics.write(&MetricsEvent::Step(step))?;
        let last_of_stage = self.state.step == before + self.loader.steps(index);
        if last_of_stage && self.loader.realised().len() > 1 {
            let shares: Vec<String> = self
                .loader
                .realised()
                .iter()
                .map(|(name, share)| format!("{name} {:.1}%", share * 100.0))
                .collect();
            self.progress.note(&format!("stage {} drew {}", stage.name, shares.join(", ")));
        }
        Ok(())
    }

    /// The guard's sentence with the place of the step's data, which began at `position`.
    fn trouble(&mut self, trouble: &str, index: usize, position: LoaderPosition) -> Error {
        let stage: &Stage = &self.recipe.stages[index];
        let mut places = Vec::new();
        if self.loader.seek(&position).is_ok() {
            for _ in 0..stage.accumulate {
                if self.loader.next(index, stage.micro_batch, stage.context, &mut self.batch).is_ok() {
                    places.push(self.loader.whereabouts());
                }
            }
        }
        self.progress.finish();
        Error::Invalid(format!(
            "step {} of stage `{}`: {trouble}. This step was not applied; {}. Look at the data of this step, or lower the \
             learning rate or optimizer.clip in another run.\n{}",
            self.state.step + 1,
            stage.name,
            self.kept(),
            places.join("\n")
        ))
    }

    /// What is said where the last step has spoiled the weights, which are then not kept.
    fn spoiled(&mut self, trouble: &str) -> Error {
        self.progress.finish();
        Error::Invalid(format!(
            "after step {}: {trouble}. This step is not kept; {}. Lower the learning rate or optimizer.clip in another \
             run. Last batch:\n{}",
            self.state.step,
            self.kept(),
            self.loader.whereabouts()
        ))
    }

    /// What there is to go back to.
    fn kept(&self) -> String {
        match self.store.steps().ok().and_then(|steps| steps.last().copied()) {
            Some(step) => format!("the checkpoint of step {step} is as it was"),
            None => "there is no checkpoint yet".to_owned(),
        }
    }

    /// Held-out perplexity and sample text, where they are due; whether the perplexity is the best so far.
    fn measure(&mut self) -> Result<bool> {
        let step = self.state.step;
        let mut is_best = false;
        let (total, recipe) = (self.total, self.recipe);
        let due = |every: u64| step.is_multiple_of(every.max(1)) || step == total;
        if let Some(validation) = recipe.validation.as_ref().filter(|validation| due(validation.every)) {
            let loss = self.validate(validation.windows)?;
            if !loss.is_finite() {
                return Err(self.spoiled(&format!("the held-out loss is {loss}")));
            }
            let point = ValidationPoint { step, loss, perplexity: loss.exp(), tokens: self.state.tokens };
            self.progress
                .note(&format!("step {step}: held-out loss {loss:.4}, perplexity {:.2}", point.perplexity));
            self.events.validation(&point)?;
            self.metrics.write(&MetricsEvent::Validation(point))?;
            if self.state.best.is_none_or(|best| loss < best.loss) {
                self.state.best = Some(BestValidation { step, loss });
                is_best = true;
            }
        }
        if let (Some(sample), Some(sampler)) = (&recipe.sample, &mut self.sampler)
            && due(sample.every)
        {
            for prompt in &sample.prompts {
                let text = sampler.write(&mut self.engine, prompt, step)?;
                let sample = SampleText { step, prompt: prompt.clone(), text };
                self.progress.note(&format!(
                    "step {step}: {}|{}",
                    sample.prompt,
                    sample.text.replace('\n', " ")
                ));
                self.events.sample(&sample)?;
                self.metrics.write(&MetricsEvent::Sample(sample))?;
            }
        }
        Ok(is_best)
    }

    /// Mean cross-entropy of the held-out windows of the current stage's context, in nats.
    fn validate(&mut self, limit: Option<usize>) -> Result<f64> {
        let Some(validation) = &self.validation else { return Ok(f64::NAN) };
        let stage = &self.recipe.stages[self.stage.unwrap_or(0)];
        let windows = validation.windows(stage.context, limit)?;
        let (mut sum, mut first) = (0.0, 0);
        while first < windows {
            let sequences = stage.micro_batch.min(windows - first);
            validation.fill(first, sequences, stage.context, &mut self.batch)?;
            sum += self.engine.evaluate(&self.batch)?;
            first += sequences;
        }
        Ok(sum / (windows * stage.context) as f64)
    }

    fn save(&mut self) -> Result<()> {
        self.engine.read(Buffer::Weights, &mut self.numbers.weights)?;
        self.engine.read(Buffer::FirstMoment, &mut self.numbers.first_moment)?;
        self.engine.read(Buffer::SecondMoment, &mut self.numbers.second_moment)?;
        let TrainingTensors { weights, first_moment, second_moment } = &self.numbers;
        if [weights, first_moment, second_moment].iter().any(|values| values.iter().any(|x| !x.is_finite())) {
            return Err(self.spoiled("weights or moments are no longer finite"));
        }
        self.state.losses = self.guard.losses();
        self.metrics.sync()?;
        self.store.save(self.engine.parameters(), &self.state, &self.numbers, &self.recipe_text)?;
        Ok(())
    }
}

/// A folder with files that are not a run's is not written into.
fn own(run: &Path) -> Result<()> {
    let used = run.is_dir() && std::fs::read_dir(run).map_err(Error::file(run, "read"))?.next().is_some();
    if used && !run.join(LOCK).exists() {
        return Err(Error::Usage(format!(
            "{} holds files that are not a run's: name another folder with --run",
            run.display()
        )));
    }
    Ok(())
}

/// Keeps other processes from writing into the run folder; the system lets go of it with the process.
fn lock(run: &Path) -> Result<File> {
    let path = run.join(LOCK);
    let file = File::create(&path).map_err(Error::file(&path, "create"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Invalid(format!(
            "another thimble-train is at work in {}: wait for it, or name another folder with --run",
            run.display()
        ))),
        // A file system without locks is no reason not to train.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// The rotary base in a stage: the last one that a stage up to it gave.
pub fn theta(recipe: &TrainingRecipe, stage: usize) -> f64 {
    let given = recipe.stages[..=stage].iter().rev().find_map(|stage| stage.rope_theta);
    given.unwrap_or(recipe.model.rope_theta)
}

/// A resumed run must be the run that was begun. What is shown or kept may change, what is computed may not.
/// `resume` is the command that goes on with it.
fn same_recipe(then: &TrainingRecipe, now: &TrainingRecipe, resume: &str) -> Result<()> {
    // Where a set lies may change too: that it is the same one, the saved position tells by its content.
    let numbers = |recipe: &TrainingRecipe| TrainingRecipe {
        data: DataMix { sets: Default::default() },
        checkpoint: Default::default(),
        sample: None,
        guard: Default::default(),
        ..recipe.clone()
    };
    let (a, b) = (numbers(then), numbers(now));
    if a == b {
        return Ok(());
    }
    let (a, b) = (a.to_toml()?, b.to_toml()?);
    let differs: Vec<String> = a
        .lines()
        .filter(|line| !b.lines().any(|other| other == *line))
        .map(|line| format!("- {line}"))
        .chain(
            b.lines().filter(|line| !a.lines().any(|other| other == *line)).map(|line| format!("+ {line}")),
        )
        .collect();
    Err(Error::Invalid(format!(
        "the run was begun with another recipe (- then, + now); `{resume}` goes on with it, or start another run with --run:\n{}",
        differs.join("\n")
    )))
}

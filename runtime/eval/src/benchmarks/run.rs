//! An evaluation, from its data to its results.

use super::data::{BenchmarkData, DataSource, Selection};
use super::error::{EvalError, Result};
use super::evaluated::{Ended, Evaluated, Outputs, Stopped};
use super::event::EvalEvent;
use super::item::Question;
use super::item_runner::ItemOutcome;
use super::outcomes::Outcomes;
use super::partial::{EarlierRuns, PartialResults};
use super::prediction::Prediction;
use super::results::{
    Average, Identity, MissingTask, ModelId, Results, SettingsId, TaskId, TaskResult, Times, no_data,
};
use super::schedule::{prepare, sorted, timed_first};
use super::task::Task;
use super::text_runner::slots_per_thread;
use super::workers::Workers;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use thimble_files::MappedModel;
use thimble_files::OutputFiles;
use thimble_host::{InferencePlan, InferenceSettings, generator, set_adapters};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::format::{ModelFile, checksum};
use thimble_runtime::kernels::SingleThread;

/// What to evaluate and how.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The model.
    pub model: &'a MappedModel,
    /// Its adapters.
    pub adapters: &'a [WeightedAdapter<'a>],
    /// The model's name in the results.
    pub name: String,
    /// Inference settings. `context` limits the length of requests; the default is the model's.
    pub settings: InferenceSettings,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Their data.
    pub source: DataSource,
    /// The rows of each task.
    pub selection: Selection,
    /// The file for the results; partial results are kept beside it.
    pub result: Option<PathBuf>,
    /// The file for one line per item.
    pub samples: Option<PathBuf>,
}

impl Evaluation<'_> {
    /// Evaluates until every item is done or `stop` is set.
    ///
    /// The results depend neither on the number of threads nor on interruptions.
    ///
    /// # Errors
    /// Invalid data, partial results or models. Tasks without data are no error: the results name them.
    pub fn run(&self, stop: &AtomicBool, events: &mut dyn FnMut(EvalEvent)) -> Result<Ended> {
        let begin = Instant::now();
        let file = self.model.file().map_err(thimble_host::GeneratorError::from)?;
        let outputs = self.outputs()?;
        let (data, missing) = self.load(events)?;
        if data.is_empty() && !missing.is_empty() {
            return Err(EvalError::Missing { reason: no_data(&missing) });
        }
        let adapter_rank = WeightedAdapter::largest_rank(self.adapters);
        let (threads, logit_rows) = (Some(1), Some(LOGIT_ROWS));
        let mut one = InferenceSettings { threads, logit_rows, adapter_rank, ..self.settings };
        let arithmetic = arithmetic((&file, self.adapters), &mut one)?;
        let most = self.settings.context.unwrap_or(file.config().context);
        let threads =
            InferencePlan::new(file.config(), &InferenceSettings { context: Some(1), ..self.settings })?
                .threads();
        // Refuses a longer context than the model's.
        let kernels = InferencePlan::new(file.config(), &InferenceSettings { context: Some(most), ..one })?;
        let identity =
            Identity { arithmetic: Some(arithmetic), ..self.identity(&file, &data, &kernels, most) };
        // Before partial results are created: an item that does not fit leaves no file.
        let all = sorted(&data);
        events(EvalEvent::Tokenizing { items: all.len() });
        let (mut todo, positions) = prepare(&file, &data, &all, threads, most)?;
        let (mut partial, mut earlier) = match &outputs.result {
            Some(result) => {
                let (partial, earlier) = PartialResults::open(&PartialResults::path_of(result), &identity)?;
                (Some(partial), earlier)
            }
            None => (None, EarlierRuns::default()),
        };
        let mut outcomes = Outcomes::new(&data, std::mem::take(&mut earlier.outcomes));
        if let (Some((task, index)), Some(partial)) = (outcomes.incomplete(&data), &partial) {
            return Err(partial.wrong_item(task, index));
        }
        if outcomes.count > 0 {
            events(EvalEvent::Resumed { items: outcomes.count, seconds: earlier.seconds });
        }
        let mut prediction = Prediction::new(file.config(), data.iter().map(|data| data.task));
        outcomes.all().for_each(|outcome| prediction.done(outcome, None));

        todo.retain(|todo| outcomes.lists[todo.data][todo.item].is_none());
        todo.iter().for_each(|todo| prediction.expect(data[todo.data].task, &todo.work));
        let (todo, mut timed) = timed_first(&data, todo, &outcomes);
        let context = positions.clamp(1, file.config().context);
        let plan = InferencePlan::new(file.config(), &InferenceSettings { context: Some(context), ..one })?;

        let (adapters, context) = (self.adapters, most);
        let has_text = |data: &BenchmarkData| {
            data.items.iter().any(|item| matches!(item.question, Question::Text { .. }))
        };
        let text_plan = if data.iter().any(has_text) && !plan.backend().has_gpu() {
            let sequences = Some(slots_per_thread(&plan, threads));
            let settings = InferenceSettings { sequences, context: Some(plan.context()), ..one };
            Some(InferencePlan::new(file.config(), &settings)?)
        } else {
            None
        };
        let workers = Workers {
            data: &data,
            todo: &todo,
            file: &file,
            adapters,
            plan: &plan,
            text_plan,
            context,
            stop,
        };
        let mut predicted = earlier.predicted;
        let mut elapsed = 0.0;
        // On a GPU, each thread would hold its own copy of the weights.
        let threads = if plan.backend().has_gpu() { 1 } else { threads };
        workers.run(threads.min(todo.len()), &mut |place, outcome| {
            if let Some(partial) = &mut partial {
                partial.done(&outcome)?;
            }
            prediction.done(&outcome, Some(&todo[place].work));
            outcomes.add(outcome);
            elapsed = begin.elapsed().as_secs_f64();
            let left = || prediction.seconds_left() / threads as f64;
            if place < timed.of {
                timed.done += 1;
                if timed.done == timed.of {
                    let total = earlier.seconds + elapsed + left();
                    events(EvalEvent::Predicted { total, left: left() });
                    if predicted.is_none() {
                        predicted = Some(total);
                        if let Some(partial) = &mut partial {
                            partial.predicted(total)?;
                        }
                    }
                }
            }
            let of = outcomes.of;
            let known = timed.done == timed.of;
            events(EvalEvent::Done { items: outcomes.count, of, left: known.then(left) });
            Ok(())
        })?;
        if let Some(partial) = &mut partial {
            partial.sync()?;
        }
        if outcomes.count < outcomes.of {
            let partial = outputs.result.as_deref().map(PartialResults::path_of);
            return Ok(Ended::Stopped(Stopped { items: outcomes.count, of: outcomes.of, partial }));
        }
        let seconds = Times { predicted, actual: earlier.seconds + elapsed, runs: earlier.runs + 1, threads };
        let outcomes = outcomes.into_lists();
        let result = |(data, outcomes): (&BenchmarkData, &Vec<ItemOutcome>)| {
            TaskResult::new(data, &outcomes.iter().collect::<Vec<_>>())
        };
        let tasks: Vec<TaskResult> = data.iter().zip(&outcomes).map(result).collect();
        let average = Average::new(&tasks);
        let results = Results { name: self.name.clone(), identity, tasks, missing, average, seconds };
        Ok(Ended::Complete(Box::new(Evaluated { results, data, outcomes, outputs })))
    }

    /// The resolved output paths; an error if they would overwrite each other, the model or its data.
    fn outputs(&self) -> Result<Outputs> {
        let mut files = OutputFiles::default();
        files.reads("the model", self.model.path());
        for &task in &self.tasks {
            for file in self.source.files(task) {
                files.reads("the data of a task", &file);
            }
        }
        let mut place =
            |what, path: &Option<PathBuf>| path.as_deref().map(|path| files.writes(what, path)).transpose();
        let result = place("-o", &self.result)?;
        place("the partial results of -o", &result.as_deref().map(PartialResults::path_of))?;
        Ok(Outputs { samples: place("--samples", &self.samples)?, result })
    }

    fn load(&self, events: &mut dyn FnMut(EvalEvent)) -> Result<(Vec<BenchmarkData>, Vec<MissingTask>)> {
        let (mut data, mut missing) = (Vec::new(), Vec::new());
        for &task in &self.tasks {
            events(EvalEvent::Reading(task));
            match self.source.load(task, self.selection) {
                Ok(loaded) => data.push(loaded),
                Err(EvalError::Missing { reason }) => missing.push(MissingTask { task, reason }),
                Err(error) => return Err(error),
            }
        }
        Ok((data, missing))
    }

    fn identity(
        &self,
        file: &ModelFile<'_>,
        data: &[BenchmarkData],
        plan: &InferencePlan,
        context: usize,
    ) -> Identity {
        let bytes = file.bytes();
        let options = plan.memory().options();
        let task = |data: &BenchmarkData| TaskId {
            task: data.task,
            items: data.items.len(),
            rows: data.rows,
            files: data.files.clone(),
        };
        Identity {
            version: env!("CARGO_PKG_VERSION").to_string(),
            model: ModelId { checksum: format!("{:016x}", checksum(bytes)), bytes: bytes.len() as u64 },
            settings: SettingsId {
                exact: options.exact,
                kv: format!("{:?}", options.kv).to_lowercase(),
                kernels: plan.processors(),
                context,
                adapters: self.adapters.iter().map(adapter_name).collect(),
            },
            selection: self.selection,
            tasks: data.iter().map(task).collect(),
            arithmetic: None,
        }
    }
}

/// The bits of a log-likelihood of fixed tokens: results of different kernels must not be mixed. If the GPU fails its
/// startup check, `one` falls back to the CPU.
fn arithmetic(
    (file, adapters): (&ModelFile<'_>, &[WeightedAdapter<'_>]),
    one: &mut InferenceSettings,
) -> Result<String> {
    let config = file.config();
    let count = PROBE_TOKENS.min(config.vocab).min(config.context);
    let tokens: Vec<Token> = (0..count as u32).map(Token).collect();
    let plan = InferencePlan::new(config, &InferenceSettings { context: Some(count), ..*one })?;
    let mut memory = plan.allocate()?;
    let mut session = generator(file, &plan, &mut memory, &SingleThread)?;
    set_adapters(&mut session, adapters)?;
    let mut sum = 0.0;
    session.score(&tokens, 1, &mut |scored| sum += scored.log_probability)?;
    one.backend = Some(session.sequence().kind());
    Ok(format!("{:016x}", sum.to_bits()))
}

/// An adapter by its checksum, with its weight.
fn adapter_name(adapter: &WeightedAdapter<'_>) -> String {
    format!("{:016x}:{}", adapter.file.id(), adapter.weight)
}

/// Tokens of the probe: enough that a CPU and a GPU would share the prefill.
const PROBE_TOKENS: usize = 48;

/// Positions whose logits are computed in one pass.
const LOGIT_ROWS: usize = 16;

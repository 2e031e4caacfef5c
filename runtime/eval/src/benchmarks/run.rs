//! An evaluation from its data to its results, on several threads, each with a session of its own.

use super::answerer::{Asked, ItemOutcome, ItemRunner};
use super::data::{BenchmarkData, DataSource, Selection};
use super::error::{EvalError, Result};
use super::item::{Item, Question};
use super::partial::{PartialResults, Past};
use super::passes::Work;
use super::prediction::{Prediction, sample};
use super::results::{
    Average, Identity, MissingTask, ModelId, Results, SettingsId, TaskId, TaskResult, Times, no_data,
};
use super::task::Task;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use thimble_files::MappedModel;
use thimble_files::OutputFiles;
use thimble_host::{InferencePlan, InferenceSettings, generator};
use thimble_runtime::Token;
use thimble_runtime::format::{ModelFile, checksum};
use thimble_runtime::kernels::SingleThread;

/// What to evaluate and how.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The model.
    pub model: &'a MappedModel,
    /// What to call it.
    pub name: String,
    /// How it is computed. The context is the most that requests may have: the model's own by default.
    pub settings: InferenceSettings,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Their data.
    pub source: DataSource,
    /// The rows of each.
    pub selection: Selection,
    /// The file that the results are for: partial results are kept beside it.
    pub result: Option<PathBuf>,
    /// The file for a line of each item.
    pub samples: Option<PathBuf>,
}

/// News from an evaluation under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EvalEvent {
    /// A task's data is being read.
    Reading(Task),
    /// Items are being tokenized.
    Tokenizing {
        /// How many.
        items: usize,
    },
    /// Earlier sittings are gone on with.
    Resumed {
        /// Items that are done.
        items: usize,
        /// Seconds that they took.
        seconds: f64,
    },
    /// The first items have been timed.
    Predicted {
        /// Seconds of the whole evaluation, earlier sittings included.
        total: f64,
        /// Seconds from now on.
        left: f64,
    },
    /// An item is done.
    Done {
        /// Items done, in all sittings.
        items: usize,
        /// Items in all.
        of: usize,
        /// Seconds from now on, once predicted.
        left: Option<f64>,
    },
}

/// What became of an evaluation.
#[derive(Debug)]
pub enum Ended {
    /// It is complete. The results are not written yet; the partial results are there until [`Evaluated::finish`].
    Complete(Box<Evaluated>),
    /// It was stopped.
    Stopped(Stopped),
}

/// An evaluation that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Items done.
    pub items: usize,
    /// Items in all.
    pub of: usize,
    /// The partial results that hold them, if one was asked for.
    pub partial: Option<PathBuf>,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stopped { items, of, partial } = self;
        match partial {
            Some(partial) => write!(
                f,
                "stopped after {items} of {of} items, which are kept in {}: the same command goes on from there",
                partial.display()
            ),
            None => {
                write!(f, "stopped after {items} of {of} items: with -o OUT.json it could go on from there")
            }
        }
    }
}

/// A complete evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// What it found.
    pub results: Results,
    /// The items.
    pub data: Vec<BenchmarkData>,
    /// For each task what the model made of its items, in the items' order.
    pub outcomes: Vec<Vec<ItemOutcome>>,
    outputs: Outputs,
}

impl Evaluated {
    /// Writes results and samples where they were asked for, and removes the partial results once all is written.
    pub fn finish(&self) -> Result<()> {
        let Outputs { result, samples } = &self.outputs;
        result.as_ref().map_or(Ok(()), |path| self.results.write(path))?;
        samples.as_ref().map_or(Ok(()), |path| self.write_samples(path))?;
        let Some(result) = result else { return Ok(()) };
        let partial = PartialResults::path_of(result);
        std::fs::remove_file(&partial).map_err(EvalError::io("remove", &partial))
    }
}

/// Where files are written to.
#[derive(Clone, Debug)]
struct Outputs {
    result: Option<PathBuf>,
    samples: Option<PathBuf>,
}

/// An item to be done: task and item by their places, and what is expected of it.
#[derive(Clone, Copy)]
struct Todo {
    data: usize,
    item: usize,
    work: Work,
}

impl Evaluation<'_> {
    /// Evaluates until everything is done or `stop` is set.
    ///
    /// The results do not depend on the number of threads, nor on where an evaluation was interrupted.
    ///
    /// # Errors
    /// Where data, partial results or model are not what they should be. Tasks without data are no error: the results name
    /// them.
    pub fn run(&self, stop: &AtomicBool, events: &mut dyn FnMut(EvalEvent)) -> Result<Ended> {
        let begin = Instant::now();
        let file = self.model.file().map_err(thimble_host::GeneratorError::from)?;
        let outputs = self.outputs()?;
        let (data, missing) = self.load(events)?;
        if data.is_empty() && !missing.is_empty() {
            return Err(EvalError::Missing { reason: no_data(&missing) });
        }
        let mut one = InferenceSettings { threads: Some(1), logit_rows: Some(ROWS), ..self.settings };
        let arithmetic = arithmetic(&file, &mut one)?;
        let most = self.settings.context.unwrap_or(file.config().context);
        let threads =
            InferencePlan::new(file.config(), &InferenceSettings { context: Some(1), ..self.settings })?
                .threads();
        // Refuses a longer context than the model's.
        let kernels = InferencePlan::new(file.config(), &InferenceSettings { context: Some(most), ..one })?;
        let identity =
            Identity { arithmetic: Some(arithmetic), ..self.identity(&file, &data, &kernels, most) };
        // Before partial results are begun: what cannot be asked leaves none behind.
        let all = sorted(&data);
        events(EvalEvent::Tokenizing { items: all.len() });
        let (mut todo, positions) = prepare(&file, &data, &all, threads, most)?;
        let (mut partial, mut past) = match &outputs.result {
            Some(result) => {
                let (partial, past) = PartialResults::open(&PartialResults::path_of(result), &identity)?;
                (Some(partial), past)
            }
            None => (None, Past::default()),
        };
        let mut outcomes = Outcomes::new(&data, std::mem::take(&mut past.outcomes));
        if let (Some((task, index)), Some(partial)) = (outcomes.not_whole(&data), &partial) {
            return Err(partial.wrong_item(task, index));
        }
        if outcomes.count > 0 {
            events(EvalEvent::Resumed { items: outcomes.count, seconds: past.seconds });
        }
        let mut prediction = Prediction::new(file.config(), data.iter().map(|data| data.task));
        outcomes.all().for_each(|outcome| prediction.done(outcome, None));

        todo.retain(|todo| outcomes.lists[todo.data][todo.item].is_none());
        todo.iter().for_each(|todo| prediction.expect(data[todo.data].task, &todo.work));
        let (todo, mut timed) = timed_first(&data, todo, &outcomes);
        let context = positions.clamp(1, file.config().context);
        let plan = InferencePlan::new(file.config(), &InferenceSettings { context: Some(context), ..one })?;

        let workers = Workers { data: &data, todo: &todo, file: &file, plan: &plan, context: most, stop };
        let mut predicted = past.predicted;
        let mut elapsed = 0.0;
        // Each would hold its own copy of the weights on a GPU.
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
                    let total = past.seconds + elapsed + left();
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
        let seconds =
            Times { predicted, actual: past.seconds + elapsed, sittings: past.sittings + 1, threads };
        let outcomes = outcomes.into_lists();
        let result = |(data, outcomes): (&BenchmarkData, &Vec<ItemOutcome>)| {
            TaskResult::new(data, &outcomes.iter().collect::<Vec<_>>())
        };
        let tasks: Vec<TaskResult> = data.iter().zip(&outcomes).map(result).collect();
        let average = Average::new(&tasks);
        let results = Results { name: self.name.clone(), of: identity, tasks, missing, average, seconds };
        Ok(Ended::Complete(Box::new(Evaluated { results, data, outcomes, outputs })))
    }

    /// Where the files asked for really go; refused where they would replace each other, the model or its data.
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
            },
            selection: self.selection,
            tasks: data.iter().map(task).collect(),
            arithmetic: None,
        }
    }
}

/// What the model gives to its first tokens, bit by bit: results of other kernels shall not be mixed with these. A GPU that
/// is given up at once is taken out of the settings.
fn arithmetic(file: &ModelFile<'_>, one: &mut InferenceSettings) -> Result<String> {
    let config = file.config();
    let count = PROBE.min(config.vocab).min(config.context);
    let tokens: Vec<Token> = (0..count as u32).map(Token).collect();
    let plan = InferencePlan::new(config, &InferenceSettings { context: Some(count), ..*one })?;
    let mut memory = plan.allocate()?;
    let mut session = generator(file, &plan, &mut memory, &SingleThread)?;
    let mut sum = 0.0;
    session.score(&tokens, 1, &mut |scored| sum += scored.log_probability)?;
    one.backend = Some(session.sequence().kind());
    Ok(format!("{:016x}", sum.to_bits()))
}

/// Tokens of that: as many as count as a prompt where two processors share the work.
const PROBE: usize = 48;

/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// What is done, by place of task and item.
struct Outcomes {
    lists: Vec<Vec<Option<ItemOutcome>>>,
    places: HashMap<(Task, usize), (usize, usize)>,
    count: usize,
    of: usize,
}

impl Outcomes {
    fn new(data: &[BenchmarkData], past: Vec<ItemOutcome>) -> Outcomes {
        let mut places = HashMap::new();
        for (place, data) in data.iter().enumerate() {
            for (item, Item { index, .. }) in data.items.iter().enumerate() {
                places.insert((data.task, *index), (place, item));
            }
        }
        let lists = data.iter().map(|data| vec![None; data.items.len()]).collect();
        let mut outcomes = Outcomes { lists, of: places.len(), places, count: 0 };
        past.into_iter().for_each(|outcome| outcomes.add(outcome));
        outcomes
    }

    /// An item whose outcome is not one of its question.
    fn not_whole(&self, data: &[BenchmarkData]) -> Option<(Task, usize)> {
        let pairs = data.iter().zip(&self.lists).flat_map(|(data, list)| data.items.iter().zip(list));
        let mut done = pairs.filter_map(|(item, outcome)| Some((item, outcome.as_ref()?)));
        done.find(|(item, outcome)| !outcome.answers(item)).map(|(item, outcome)| (outcome.task, item.index))
    }

    fn add(&mut self, outcome: ItemOutcome) {
        if let Some(&(data, item)) = self.places.get(&(outcome.task, outcome.index)) {
            let slot = &mut self.lists[data][item];
            self.count += usize::from(slot.is_none());
            *slot = Some(outcome);
        }
    }

    fn all(&self) -> impl Iterator<Item = &ItemOutcome> {
        self.lists.iter().flatten().flatten()
    }

    fn into_lists(self) -> Vec<Vec<ItemOutcome>> {
        self.lists.into_iter().map(|list| list.into_iter().flatten().collect()).collect()
    }
}

/// The items, task by task, those with the same beginning together.
fn sorted(data: &[BenchmarkData]) -> Vec<(usize, usize)> {
    let beginning = |item: &Item| match &item.question {
        Question::Choices(choices) => choices.contexts.first().cloned().unwrap_or_default(),
        Question::Text { prompt, .. } => prompt.clone(),
    };
    let mut sorted = Vec::new();
    for (place, data) in data.iter().enumerate() {
        let mut items: Vec<usize> = (0..data.items.len()).collect();
        items.sort_by_cached_key(|&item| beginning(&data.items[item]));
        sorted.extend(items.into_iter().map(|item| (place, item)));
    }
    sorted
}

/// Items that can be asked, and the positions that the longest needs.
type Prepared = (Vec<Todo>, usize);

/// Tokenizes everything once, to know what it takes and how long the longest is, and that all of it can be asked.
fn prepare(
    file: &ModelFile<'_>,
    data: &[BenchmarkData],
    sorted: &[(usize, usize)],
    threads: usize,
    context: usize,
) -> Result<Prepared> {
    const CHUNK: usize = 64;
    let next = AtomicUsize::new(0);
    let chunk = |held: &mut Vec<Token>, part: &[(usize, usize)]| {
        let mut todo = Vec::with_capacity(part.len());
        let mut positions = 0;
        held.clear();
        for &(place, item) in part {
            let (data, at) = (&data[place], &data[place].items[item]);
            let asked = Asked::new(file, at, context)?;
            let asked = asked.map_err(|reason| data.wrong(at, reason))?;
            todo.push(Todo { data: place, item, work: asked.work(held) });
            positions = positions.max(asked.positions());
            held.clear();
            held.extend(asked.beginning());
        }
        Ok((todo, positions))
    };
    let work = || {
        let mut done = Vec::new();
        let mut held = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = sorted.chunks(CHUNK).nth(number) else { return done };
            done.push((number, chunk(&mut held, part)));
        }
    };
    let mut chunks: Vec<(usize, Result<Prepared>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| EvalError::Thread))
            .collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    // In order, so that the first mistake is told whatever the threads did.
    chunks.sort_by_key(|(number, _)| *number);
    let (mut all, mut positions) = (Vec::with_capacity(sorted.len()), 0);
    for (_, chunk) in chunks {
        let (todo, longest) = chunk?;
        all.extend(todo);
        positions = positions.max(longest);
    }
    Ok((all, positions))
}

/// How many of the items at the front are timed, and how many of these are done.
struct Timed {
    of: usize,
    done: usize,
}

/// Moves a sample of each task to the front, spread evenly over it.
fn timed_first(data: &[BenchmarkData], todo: Vec<Todo>, outcomes: &Outcomes) -> (Vec<Todo>, Timed) {
    let mut first = vec![false; todo.len()];
    let mut start = 0;
    for part in todo.chunk_by(|a, b| a.data == b.data) {
        let place = part[0].data;
        let before = outcomes.lists[place].iter().flatten().count();
        let wanted = sample(data[place].items.len(), before).min(part.len());
        for i in 0..wanted {
            first[start + (2 * i + 1) * part.len() / (2 * wanted)] = true;
        }
        start += part.len();
    }
    let pick = |wanted: bool| {
        todo.iter().zip(&first).filter(move |(_, first)| **first == wanted).map(|(todo, _)| *todo)
    };
    let of = first.iter().filter(|first| **first).count();
    (pick(true).chain(pick(false)).collect(), Timed { of, done: 0 })
}

/// What the threads share.
struct Workers<'a> {
    data: &'a [BenchmarkData],
    todo: &'a [Todo],
    file: &'a ModelFile<'a>,
    plan: &'a InferencePlan,
    context: usize,
    stop: &'a AtomicBool,
}

impl Workers<'_> {
    /// Gives each item's outcome with its place to `each`, on this thread.
    fn run(&self, threads: usize, each: &mut dyn FnMut(usize, ItemOutcome) -> Result<()>) -> Result<()> {
        let next = AtomicUsize::new(0);
        let ended = AtomicBool::new(false);
        // Bounded, so that no thread runs ahead of what is written down.
        let (sender, receiver) = sync_channel(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let sender = sender.clone();
                let (next, ended) = (&next, &ended);
                scope.spawn(move || {
                    let worked = self
                        .work(next, ended, &mut |place, outcome| sender.send(Ok((place, outcome))).is_ok());
                    if let Err(error) = worked {
                        // Nobody listens where another error came first.
                        let _ = sender.send(Err(error));
                    }
                });
            }
            drop(sender);
            let mut result = Ok(());
            loop {
                match receiver.recv_timeout(Duration::from_millis(100)) {
                    Ok(received) if result.is_ok() => {
                        result = received.and_then(|(place, outcome)| each(place, outcome));
                        if result.is_err() {
                            ended.store(true, Ordering::Relaxed);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvTimeoutError::Disconnected) => return result,
                    Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                        ended.store(true, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    }

    /// One thread: the next item until there is none.
    fn work(
        &self,
        next: &AtomicUsize,
        ended: &AtomicBool,
        send: &mut dyn FnMut(usize, ItemOutcome) -> bool,
    ) -> Result<()> {
        let mut memory = self.plan.allocate()?;
        let session = generator(self.file, self.plan, &mut memory, &SingleThread)?;
        if session.sequence().kind() != self.plan.backend() {
            // It was there for the first tokens, in a short context.
            return Err(EvalError::Gpu { begun: false });
        }
        let mut answerer = ItemRunner { file: *self.file, session, context: self.context };
        loop {
            if ended.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(todo) = self.todo.get(place) else { return Ok(()) };
            let data = &self.data[todo.data];
            let outcome = answerer.answer(data.task, &data.items[todo.item])?;
            if answerer.session.sequence().kind() != self.plan.backend() {
                return Err(EvalError::Gpu { begun: true });
            }
            if !send(place, outcome) {
                return Ok(());
            }
        }
    }
}

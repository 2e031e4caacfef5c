//! The results of an evaluation, as the result file holds them.

use super::answer::{flexible, matches, strict};
use super::data::{BenchmarkData, DataFile, Selection};
use super::error::{EvalError, Result};
use super::item::{Choices, Gold, Item, Question};
use super::item_runner::ItemOutcome;
use super::passes::Work;
use super::task::{Metric, Task};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is evaluated and how. All runs of one evaluation have the same identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of thimble.
    pub version: String,
    /// The model's file.
    pub model: ModelId,
    /// How it is computed.
    pub settings: SettingsId,
    /// Which rows of each task.
    pub selection: Selection,
    /// The tasks and their data.
    pub tasks: Vec<TaskId>,
    /// The bits of a log-likelihood of fixed tokens, which depend on the kernels.
    #[serde(default)]
    pub arithmetic: Option<String>,
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// XXH3 of all of its bytes, in hexadecimal.
    pub checksum: String,
    /// Its size.
    pub bytes: u64,
}

/// Inference settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingsId {
    /// The reference mode.
    pub exact: bool,
    /// The type of the KV cache.
    pub kv: String,
    /// The kernels.
    pub kernels: String,
    /// The context to which requests are truncated from the left.
    pub context: usize,
    /// Checksums of the adapters, with their weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
}

/// A task and its data files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskId {
    /// The task.
    pub task: Task,
    /// Items evaluated.
    pub items: usize,
    /// Rows of the whole file.
    pub rows: usize,
    /// Its files.
    pub files: Vec<DataFile>,
}

impl Identity {
    /// A description of the first difference from `now`.
    pub(crate) fn difference(&self, now: &Identity) -> Option<String> {
        let tasks = |id: &Identity| id.tasks.iter().map(|task| task.task).collect::<Vec<_>>();
        let names = |id: &Identity| tasks(id).into_iter().map(Task::name).collect::<Vec<_>>().join(", ");
        if self.version != now.version {
            return Some(format!("of thimble {}, this is {}", self.version, now.version));
        }
        if self.model != now.model {
            let (old, new) = (&self.model.checksum, &now.model.checksum);
            return Some(format!("its model has the checksum {old}, this one {new}"));
        }
        if self.settings != now.settings {
            return Some(format!("its settings are {}; these are {}", self.settings, now.settings));
        }
        if tasks(self) != tasks(now) {
            return Some(format!("its tasks are {}, these are {}", names(self), names(now)));
        }
        if self.selection != now.selection {
            return Some(format!("its rows are {}, these are {}", self.selection, now.selection));
        }
        if self.arithmetic.is_some() && self.arithmetic != now.arithmetic {
            return Some("its numbers were computed by other kernels than this program's".to_string());
        }
        let other = self.tasks.iter().zip(&now.tasks).find(|(old, new)| old != new);
        other.map(|(old, _)| format!("the data of {} differs", old.task.name()))
    }
}

impl std::fmt::Display for SettingsId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SettingsId { exact, kv, kernels, context, adapters } = self;
        let mode = if *exact { "exact mode" } else { "fast path" };
        write!(f, "{mode}, {kernels} kernels, {kv} keys and values, context {context}")?;
        match adapters.is_empty() {
            true => Ok(()),
            false => write!(f, ", adapters {}", adapters.join(" and ")),
        }
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "offset {} and limit {limit}", self.offset),
            None => write!(f, "all from offset {}", self.offset),
        }
    }
}

/// One metric of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskMetric {
    /// The metric.
    pub metric: Metric,
    /// Its value: a share from 0 to 1, or a perplexity.
    pub value: f64,
    /// Its standard error: `sqrt(var / n)` with the sample variance, as the harness has it; for the perplexity, which
    /// the harness bootstraps, that of the mean log-likelihood times the perplexity. None for a single item.
    pub stderr: Option<f64>,
    /// The value of each item (for perplexity the log-likelihood), in file order.
    pub items: Vec<f64>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Items evaluated.
    pub n: usize,
    /// The published table's metric first.
    pub metrics: Vec<TaskMetric>,
    /// The work it took.
    pub work: Work,
    /// Seconds of all threads together.
    pub thread_seconds: f64,
}

/// A requested task without data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissingTask {
    /// The task.
    pub task: Task,
    /// Where its data was looked for.
    pub reason: String,
}

/// The mean of the published table's ten tasks: its eleven without GSM8K.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Mean of their first metrics.
    pub value: f64,
    /// Standard error of the mean, with the tasks taken as independent.
    pub stderr: Option<f64>,
}

/// Wall-clock seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Predicted from a sample, in the first run that got that far.
    pub predicted: Option<f64>,
    /// The total of all runs, each from its start to its last finished item.
    pub actual: f64,
    /// How many runs it took.
    #[serde(rename = "sittings")]
    pub runs: usize,
    /// Threads of the last run.
    pub threads: usize,
}

/// The results of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The model's name.
    pub name: String,
    /// What was evaluated and how.
    #[serde(rename = "of")]
    pub identity: Identity,
    /// The tasks, in the requested order.
    pub tasks: Vec<TaskResult>,
    /// Tasks without data.
    pub missing: Vec<MissingTask>,
    /// `None` if one of the ten tasks is missing.
    pub average: Option<Average>,
    /// How long it took.
    pub seconds: Times,
}

/// Index of the largest number, the first on ties.
pub(crate) fn best(numbers: impl IntoIterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, number) in numbers.into_iter().enumerate() {
        if best.is_none_or(|(_, most)| number > most) {
            best = Some((index, number));
        }
    }
    best.map(|(index, _)| index)
}

/// The choice with the best log-likelihood per character.
pub(crate) fn best_per_character(choices: &Choices, sums: &[f64]) -> Option<usize> {
    // A choice without characters divides by zero, as in the harness: minus infinity.
    best(sums.iter().zip(&choices.characters).map(|(sum, &characters)| sum / characters as f64))
}

/// The share of the probability of `sums` that falls on the true ones.
fn share_of_true(sums: &[f64], truths: &[bool]) -> f64 {
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let part = |wanted: fn(bool) -> bool| {
        let of = sums.iter().zip(truths).filter(|&(_, &truth)| wanted(truth));
        of.map(|(sum, _)| (sum - most).exp()).sum::<f64>()
    };
    part(|truth| truth) / part(|_| true)
}

/// What `metric` says of one item.
pub(crate) fn value(metric: Metric, item: &Item, outcome: &ItemOutcome) -> f64 {
    let sums = &outcome.log_likelihoods;
    let share = |right: bool| f64::from(u8::from(right));
    match &item.question {
        Question::Text { answer, .. } => {
            let text = outcome.text.as_deref().unwrap_or_default();
            let found = if metric == Metric::Flexible { flexible(text) } else { strict(text) };
            share(matches(found, answer))
        }
        Question::Choices(choices) => match (&choices.gold, metric) {
            (Gold::Choice(gold), Metric::AccNorm) => share(best_per_character(choices, sums) == Some(*gold)),
            (Gold::Choice(gold), Metric::Acc) => share(best(sums.iter().copied()) == Some(*gold)),
            (Gold::Truthful { mc1, mc2 }, metric) => {
                let (first, second) = sums.split_at(sums.len().saturating_sub(mc2.len()));
                match metric {
                    Metric::Mc1 => share(best(first.iter().copied()) == Some(*mc1)),
                    _ => share_of_true(second, mc2),
                }
            }
            (Gold::Greedy, Metric::Perplexity) => sums.iter().sum(),
            (Gold::Greedy, Metric::Acc) => share(outcome.greedy == Some(true)),
            (Gold::Choice(_) | Gold::Greedy, other) => unreachable!("{other:?} is no metric of this task"),
        },
    }
}

/// Mean and standard error, `sqrt(var / n)` with the sample variance.
pub(crate) fn mean(items: &[f64]) -> (f64, Option<f64>) {
    let n = items.len() as f64;
    let mean = items.iter().sum::<f64>() / n;
    let squares: f64 = items.iter().map(|item| (item - mean).powi(2)).sum();
    (mean, (items.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}

impl TaskMetric {
    pub(crate) fn new(metric: Metric, items: Vec<f64>) -> TaskMetric {
        let (mean, error) = mean(&items);
        let (value, stderr) = match metric {
            Metric::Perplexity => ((-mean).exp(), error.map(|error| error * (-mean).exp())),
            _ => (mean, error),
        };
        TaskMetric { metric, value, stderr, items }
    }
}

impl TaskResult {
    /// From a task's items and their outcomes, in the same order.
    pub(crate) fn new(data: &BenchmarkData, outcomes: &[&ItemOutcome]) -> TaskResult {
        let measured = |&metric: &Metric| {
            let pairs = data.items.iter().zip(outcomes);
            TaskMetric::new(metric, pairs.map(|(item, outcome)| value(metric, item, outcome)).collect())
        };
        let mut work = Work::default();
        outcomes.iter().for_each(|outcome| work += outcome.work);
        TaskResult {
            task: data.task,
            n: outcomes.len(),
            metrics: data.task.metrics().iter().map(measured).collect(),
            work,
            thread_seconds: outcomes.iter().map(|outcome| outcome.seconds + outcome.decode_seconds).sum(),
        }
    }
}

impl Average {
    /// Of these tasks' results, if all ten are among them.
    pub(crate) fn new(tasks: &[TaskResult]) -> Option<Average> {
        let first = |task: &Task| tasks.iter().find(|result| result.task == *task)?.metrics.first();
        let ten: Vec<&TaskMetric> = Task::AVERAGED.iter().map(first).collect::<Option<_>>()?;
        let n = ten.len() as f64;
        let squares: Option<Vec<f64>> = ten.iter().map(|measured| Some(measured.stderr?.powi(2))).collect();
        Some(Average {
            tasks: Task::AVERAGED.to_vec(),
            value: ten.iter().map(|measured| measured.value).sum::<f64>() / n,
            stderr: squares.map(|squares| squares.iter().sum::<f64>().sqrt() / n),
        })
    }
}

impl Results {
    /// A sentence on the tasks that have no data, if there are any.
    pub fn without_data(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| no_data(&self.missing))
    }

    /// Reads what [`Results::write`] wrote.
    pub fn read(path: &Path) -> Result<Results> {
        let text = std::fs::read(path).map_err(EvalError::io("read", path))?;
        serde_json::from_slice(&text)
            .map_err(|error| EvalError::NotAResult { path: path.to_path_buf(), reason: error.to_string() })
    }

    /// Writes `path` atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        let written = thimble_files::write_with(path, |out| {
            serde_json::to_writer(&mut *out, self)?;
            out.write_all(b"\n")
        });
        written.map_err(EvalError::io("write", path))
    }
}

/// A sentence on tasks without data.
pub(crate) fn no_data(missing: &[MissingTask]) -> String {
    let named = |missing: &MissingTask| format!("{} ({})", missing.task.name(), missing.reason);
    let named: Vec<String> = missing.iter().map(named).collect();
    format!(
        "no data for {}; to use local files, pass --data FOLDER with TASK/SPLIT.jsonl for each task",
        named.join(", ")
    )
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;

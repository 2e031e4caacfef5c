//! The twelve tasks, their names and metrics.

use super::error::{EvalError, Result};
use serde::{Deserialize, Serialize};

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the tasks' own names")]
pub enum Task {
    ArcEasy,
    ArcChallenge,
    Boolq,
    Hellaswag,
    Piqa,
    Sciq,
    Winogrande,
    Truthfulqa,
    Openbookqa,
    Mmlu,
    Gsm8k,
    LambadaOpenai,
}

/// What a task measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Whether the most likely choice is correct (LAMBADA: whether the last word is the greedy continuation).
    Acc,
    /// The same with each log-likelihood divided by the choice's characters.
    AccNorm,
    /// TruthfulQA: whether the most likely choice is the true one.
    Mc1,
    /// TruthfulQA: the fraction of the choices' probability on true ones.
    Mc2,
    /// GSM8K: whether the number after `####` is correct.
    Strict,
    /// GSM8K: whether the last number is correct.
    Flexible,
    /// `exp` of the mean negative log-likelihood of the last word.
    Perplexity,
}

impl Metric {
    /// Its name in tables and results.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::Mc1 => "mc1",
            Metric::Mc2 => "mc2",
            Metric::Strict => "exact_match (strict)",
            Metric::Flexible => "exact_match (flexible)",
            Metric::Perplexity => "perplexity",
        }
    }
}

impl Task {
    /// All of them, in the order of tables.
    pub const ALL: [Task; 12] = [
        Task::ArcEasy,
        Task::ArcChallenge,
        Task::Boolq,
        Task::Hellaswag,
        Task::Piqa,
        Task::Sciq,
        Task::Winogrande,
        Task::Truthfulqa,
        Task::Openbookqa,
        Task::Mmlu,
        Task::Gsm8k,
        Task::LambadaOpenai,
    ];

    /// The ten tasks of the published average: the table's eleven without GSM8K.
    pub const AVERAGED: [Task; 10] = [
        Task::ArcEasy,
        Task::ArcChallenge,
        Task::Boolq,
        Task::Hellaswag,
        Task::Piqa,
        Task::Sciq,
        Task::Winogrande,
        Task::Truthfulqa,
        Task::Openbookqa,
        Task::Mmlu,
    ];

    /// Its name, also that of its data folder.
    pub fn name(self) -> &'static str {
        match self {
            Task::ArcEasy => "arc_easy",
            Task::ArcChallenge => "arc_challenge",
            Task::Boolq => "boolq",
            Task::Hellaswag => "hellaswag",
            Task::Piqa => "piqa",
            Task::Sciq => "sciq",
            Task::Winogrande => "winogrande",
            Task::Truthfulqa => "truthfulqa",
            Task::Openbookqa => "openbookqa",
            Task::Mmlu => "mmlu",
            Task::Gsm8k => "gsm8k",
            Task::LambadaOpenai => "lambada_openai",
        }
    }

    /// Its metrics; that of the published table first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::ArcEasy
            | Task::ArcChallenge
            | Task::Hellaswag
            | Task::Piqa
            | Task::Sciq
            | Task::Openbookqa => &[Metric::AccNorm, Metric::Acc],
            Task::Boolq | Task::Winogrande | Task::Mmlu => &[Metric::Acc],
            Task::Truthfulqa => &[Metric::Mc2, Metric::Mc1],
            Task::Gsm8k => &[Metric::Strict, Metric::Flexible],
            Task::LambadaOpenai => &[Metric::Acc, Metric::Perplexity],
        }
    }

    /// Items of the data that the published table was made with.
    pub fn published_items(self) -> usize {
        match self {
            Task::ArcEasy => 2376,
            Task::ArcChallenge => 1172,
            Task::Boolq => 3270,
            Task::Hellaswag => 10_042,
            Task::Piqa => 1838,
            Task::Sciq => 1000,
            Task::Winogrande => 1267,
            Task::Truthfulqa => 817,
            Task::Openbookqa => 500,
            Task::Mmlu => 14_042,
            Task::Gsm8k => 1319,
            Task::LambadaOpenai => 5153,
        }
    }

    /// Parses `all`, or names separated by commas: each task once, in the list's order.
    pub fn parse_list(list: &str) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => tasks.extend(Task::ALL),
                "truthfulqa_mc1" | "truthfulqa_mc2" => tasks.push(Task::Truthfulqa),
                name => tasks.push(Task::find(name)?),
            }
        }
        let mut seen = Vec::new();
        tasks.retain(|task| {
            !seen.contains(task) && {
                seen.push(*task);
                true
            }
        });
        if tasks.is_empty() { Err(EvalError::NoTasks) } else { Ok(tasks) }
    }

    fn find(name: &str) -> Result<Task> {
        if let Some(task) = Task::ALL.into_iter().find(|task| task.name() == name) {
            return Ok(task);
        }
        let name = name.to_string();
        let likeness = |task: &Task| strsim::jaro_winkler(&name.to_lowercase(), task.name());
        let best = Task::ALL.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = best.filter(|task| likeness(task) > 0.75).map(Task::name);
        Err(EvalError::UnknownTask { name, nearest, known: Task::ALL.map(Task::name).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::Task;

    #[test]
    fn lists_are_read() {
        assert_eq!(Task::parse_list("all").unwrap(), Task::ALL);
        assert_eq!(Task::parse_list("piqa, boolq,piqa").unwrap(), [Task::Piqa, Task::Boolq]);
        assert_eq!(Task::parse_list("truthfulqa_mc2,truthfulqa_mc1").unwrap(), [Task::Truthfulqa]);
        let sentence = |list: &str| Task::parse_list(list).unwrap_err().to_string();
        assert!(sentence("arc-easy").contains("did you mean arc_easy?"), "{}", sentence("arc-easy"));
        assert!(sentence("lambada").contains("did you mean lambada_openai?"));
        assert!(!sentence("xyz").contains("did you mean"));
        assert!(sentence(" ,").contains("at least one task"));
    }
}

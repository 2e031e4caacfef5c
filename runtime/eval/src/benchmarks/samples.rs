//! The samples file: one line per item with its question, the model's answer and the correct one.

use super::answer::{flexible, strict};
use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::item::{Gold, Item, Question};
use super::item_runner::ItemOutcome;
use super::results::{best, best_per_character, value};
use super::task::Task;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Writes every item as a line of JSON: task, index, contexts, continuations, log-likelihoods, tokens of each choice,
/// the selected choices, the correct one, and the metrics.
pub(crate) fn write(path: &Path, data: &[BenchmarkData], outcomes: &[Vec<ItemOutcome>]) -> Result<()> {
    let written = thimble_files::write_with(path, |out| {
        for (data, outcomes) in data.iter().zip(outcomes) {
            for (item, outcome) in data.items.iter().zip(outcomes) {
                serde_json::to_writer(&mut *out, &sample(data.task, item, outcome))?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    });
    written.map_err(EvalError::io("write", path))
}

fn sample(task: Task, item: &Item, outcome: &ItemOutcome) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_string(), value);
    put("task", json!(task));
    put("index", json!(item.index));
    match &item.question {
        Question::Text { prompt, answer } => {
            let text = outcome.text.as_deref().unwrap_or_default();
            put("context", json!(prompt));
            put("text", json!(text));
            put("strict", json!(strict(text)));
            put("flexible", json!(flexible(text)));
            put("gold", json!(answer));
        }
        Question::Choices(choices) => {
            let count = choices.continuations.len();
            put("contexts", (0..count).map(|index| choices.context(index)).collect());
            put("continuations", json!(choices.continuations));
            put("log_likelihoods", json!(outcome.log_likelihoods));
            put("tokens", json!(outcome.tokens));
            let sums = &outcome.log_likelihoods;
            match &choices.gold {
                Gold::Choice(gold) => {
                    put("choice", json!(best(sums.iter().copied())));
                    put("choice_norm", json!(best_per_character(choices, sums)));
                    put("gold", json!(gold));
                }
                Gold::Truthful { mc1, mc2 } => {
                    let first = sums.len().saturating_sub(mc2.len());
                    put("choice", json!(best(sums[..first].iter().copied())));
                    put("gold", json!(mc1));
                    put("true", json!(mc2));
                }
                Gold::Greedy => {
                    put("greedy", json!(outcome.greedy));
                }
            }
        }
    }
    for &metric in task.metrics() {
        put(metric.name(), json!(value(metric, item, outcome)));
    }
    Value::Object(line)
}

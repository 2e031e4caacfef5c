//! Two results side by side.

use super::results::{Results, TaskMetric, mean};
use super::table::{Columns, shown, shown_error};
use super::task::Metric;

/// A table of the tasks in both: the values, the difference B - A, its standard error for independent samples, and, if
/// both ran the same items, the paired standard error.
pub fn compare(first: &Results, second: &Results) -> String {
    let head = ["task", "n", "metric", "A", "stderr", "B", "stderr", "B - A", "stderr", "paired"];
    let mut table = Columns::new(1, &head);
    let mut notes = Vec::new();
    for a in &first.tasks {
        let Some(b) = second.tasks.iter().find(|b| b.task == a.task) else {
            notes.push(format!("{} is in A only", a.task.name()));
            continue;
        };
        let same = first.same_items(second, a.task) && a.n == b.n;
        let n = if a.n == b.n { a.n.to_string() } else { format!("{}, {}", a.n, b.n) };
        if !same {
            notes.push(format!("{}: A and B ran different items", a.task.name()));
        }
        for (place, a_measured) in a.metrics.iter().enumerate() {
            let Some(b_measured) = b.metrics.iter().find(|b| b.metric == a_measured.metric) else { continue };
            let metric = a_measured.metric;
            let head = |text: &str| if place == 0 { text.to_string() } else { String::new() };
            let mut row = vec![head(a.task.name()), head(&n), metric.name().to_string()];
            row.extend(differences(a_measured, b_measured, same));
            table.push(row);
        }
    }
    for b in &second.tasks {
        if !first.tasks.iter().any(|a| a.task == b.task) {
            notes.push(format!("{} is in B only", b.task.name()));
        }
    }
    if let (Some(a), Some(b)) = (&first.average, &second.average) {
        let difference = b.value - a.value;
        let combined = combined(a.stderr, b.stderr);
        let share = |value| shown(Metric::Acc, value);
        let error = |error| shown_error(Metric::Acc, error);
        table.push(vec![
            "average of ten".to_string(),
            String::new(),
            String::new(),
            share(a.value),
            error(a.stderr),
            share(b.value),
            error(b.stderr),
            signed(Metric::Acc, difference),
            error(combined),
        ]);
    }
    let sizes =
        |results: &Results| format!("{}, {:.1} MB", results.name, results.identity.model.bytes as f64 / 1e6);
    let mut out = format!("A: {}\nB: {}\n\n{table}", sizes(first), sizes(second));
    if first.identity.settings != second.identity.settings {
        notes.push(format!(
            "settings differ: A has {}; B has {}",
            first.identity.settings, second.identity.settings
        ));
    }
    if !notes.is_empty() {
        out += &format!("\n{}\n", notes.join("\n"));
    }
    out
}

fn combined(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a?.hypot(b?))
}

fn signed(metric: Metric, difference: f64) -> String {
    let text = shown(metric, difference);
    // A difference that is shown as zero has no sign.
    let nothing = shown(metric, 0.0);
    let text = if text.strip_prefix('-') == Some(&nothing) { nothing } else { text };
    if text.starts_with('-') { text } else { format!("+{text}") }
}

fn differences(a: &TaskMetric, b: &TaskMetric, same: bool) -> Vec<String> {
    let metric = a.metric;
    let paired = same.then(|| {
        let each: Vec<f64> = a.items.iter().zip(&b.items).map(|(a, b)| b - a).collect();
        let error = mean(&each).1?;
        // The error of the mean log-likelihood times the perplexity, to first order.
        Some(if metric == Metric::Perplexity { error * (a.value + b.value) / 2.0 } else { error })
    });
    vec![
        shown(metric, a.value),
        shown_error(metric, a.stderr),
        shown(metric, b.value),
        shown_error(metric, b.stderr),
        signed(metric, b.value - a.value),
        shown_error(metric, combined(a.stderr, b.stderr)),
        shown_error(metric, paired.flatten()),
    ]
}

impl Results {
    /// Whether both ran the same items of `task`.
    fn same_items(&self, other: &Results, task: super::task::Task) -> bool {
        let of = |results: &Results| results.identity.tasks.iter().find(|id| id.task == task).cloned();
        let offset = |results: &Results| results.identity.selection.offset;
        offset(self) == offset(other) && of(self) == of(other) && of(self).is_some()
    }
}

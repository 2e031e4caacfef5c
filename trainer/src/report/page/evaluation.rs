//! Held-out measurements and benchmark results, before and after.

use super::view::{TableView, title};
use crate::report::metrics::ValidationPoint;
use crate::units::grouped;
use std::collections::BTreeSet;
use thimble_eval::Results;

/// A result file of `thimble eval` or `thimble-train eval` in the run folder.
#[derive(Debug)]
pub(super) struct ResultFile {
    /// Its name without the ending.
    pub(super) name: String,
    pub(super) results: Results,
}

/// Figures of held-out measurements, with their titles; others follow under their own names.
const FIGURES: [(&str, &str); 10] = [
    ("reward_accuracy", "Reward accuracy"),
    ("length_accuracy", "Accuracy of length alone"),
    ("reward_margin", "Reward margin"),
    ("reward_chosen", "Reward, chosen"),
    ("reward_rejected", "Reward, rejected"),
    ("logp_chosen", "Log-probability, chosen"),
    ("logp_rejected", "Log-probability, rejected"),
    ("kl_from_reference", "KL from the reference, nats per token"),
    ("tokens_chosen", "Tokens, chosen"),
    ("tokens_rejected", "Tokens, rejected"),
];

/// The first, the best and the last held-out measurement, a column for each.
pub(super) fn held_out(points: &[ValidationPoint]) -> Option<TableView> {
    let (first, last) = (points.first()?, points.last()?);
    let best = points.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
    let mut columns = vec![(if first.step == 0 { "before" } else { "first" }, first)];
    if ![first.step, last.step].contains(&best.step) {
        columns.push(("best", best));
    }
    if last.step != first.step {
        columns.push((if best.step == last.step { "last, the best" } else { "last" }, last));
    }
    let row = |title: &str, value: &dyn Fn(&ValidationPoint) -> Option<String>| {
        let cells: Vec<Option<String>> = columns.iter().map(|(_, point)| value(point)).collect();
        let there = cells.iter().any(Option::is_some);
        let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".to_owned()));
        there.then(|| std::iter::once(title.to_owned()).chain(cells).collect::<Vec<String>>())
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    rows.extend(row("Step", &|point| Some(grouped(point.step))));
    rows.extend(row("Loss, nats", &|point| Some(format!("{:.4}", point.loss))));
    rows.extend(row("Perplexity", &|point| point.perplexity.map(|perplexity| format!("{perplexity:.2}"))));
    let figure = |name: &str, title: &str| {
        row(title, &|point| point.figures.get(name).map(|value| format!("{value:.4}")))
    };
    rows.extend(FIGURES.iter().filter_map(|(name, title)| figure(name, title)));
    let others: BTreeSet<&String> = points.iter().flat_map(|point| point.figures.keys()).collect();
    let others = others.into_iter().filter(|name| FIGURES.iter().all(|(known, _)| known != name));
    rows.extend(others.filter_map(|name| figure(name, &title(name))));
    let heads: Vec<&str> = std::iter::once("Held out").chain(columns.iter().map(|(name, _)| *name)).collect();
    TableView::of("Held-out examples", &heads, rows)
}

/// The metrics of all result files, a column for each file.
pub(super) fn scores(files: &[ResultFile]) -> Option<TableView> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (column, file) in files.iter().enumerate() {
        for task in &file.results.tasks {
            for metric in &task.metrics {
                let name = format!("{} ({})", task.task.name(), metric.metric.name());
                let value = match metric.stderr {
                    Some(error) => format!("{:.4} ± {error:.4}", metric.value),
                    None => format!("{:.4}", metric.value),
                };
                let row = match rows.iter().position(|row| row[0] == name) {
                    Some(row) => row,
                    None => {
                        let mut row = vec![name];
                        row.resize(files.len() + 1, "–".to_owned());
                        rows.push(row);
                        rows.len() - 1
                    }
                };
                rows[row][column + 1] = value;
            }
        }
    }
    let heads: Vec<&str> =
        std::iter::once("Task").chain(files.iter().map(|file| file.name.as_str())).collect();
    TableView::of("Benchmarks (value ± standard error)", &heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::metrics::NamedFigures;

    fn point(step: u64, loss: f64) -> ValidationPoint {
        ValidationPoint { step, loss, perplexity: Some(loss.exp()), tokens: 0, figures: NamedFigures::new() }
    }

    #[test]
    fn before_best_and_last_are_told_apart_once() {
        let table = held_out(&[point(0, 3.0), point(10, 2.0), point(20, 2.5)]).unwrap();
        assert_eq!(table.heads, ["Held out", "before", "best", "last"]);
        let improving = held_out(&[point(5, 3.0), point(10, 2.0)]).unwrap();
        assert_eq!(improving.heads, ["Held out", "first", "last, the best"]);
        assert_eq!(improving.rows[0], ["Step", "5", "10"]);
        assert_eq!(improving.rows[2], ["Perplexity", "20.09", "7.39"]);
        assert!(held_out(&[]).is_none());
    }

    #[test]
    fn the_figures_of_the_objective_follow_the_loss() {
        let preferences = |step, accuracy| ValidationPoint {
            perplexity: None,
            figures: NamedFigures::from([
                ("kl_from_reference".to_owned(), 0.25),
                ("reward_accuracy".to_owned(), accuracy),
                ("a_new_one".to_owned(), 1.0),
            ]),
            ..point(step, 0.5)
        };
        let table = held_out(&[preferences(0, 0.5), preferences(9, 0.875)]).unwrap();
        let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        let expected =
            ["Step", "Loss, nats", "Reward accuracy", "KL from the reference, nats per token", "A new one"];
        assert_eq!(names, expected, "no perplexity");
        assert_eq!(table.rows[2], ["Reward accuracy", "0.5000", "0.8750"]);
    }
}

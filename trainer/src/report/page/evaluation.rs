//! Held-out measurements and benchmark results, before and after.

use super::view::TableView;
use crate::report::metrics::ValidationPoint;
use thimble_eval::Results;

/// A result file of `thimble eval` or `thimble-train eval` in the run folder.
#[derive(Debug)]
pub(super) struct ResultFile {
    /// Its name without the ending.
    pub(super) name: String,
    pub(super) results: Results,
}

/// The first, the best and the last held-out measurement.
pub(super) fn held_out(points: &[ValidationPoint]) -> Option<TableView> {
    let (first, last) = (points.first()?, points.last()?);
    let best = points.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
    let row = |name: &str, point: &ValidationPoint| {
        vec![
            name.to_owned(),
            point.step.to_string(),
            format!("{:.4}", point.loss),
            point.perplexity.map_or("–".to_owned(), |perplexity| format!("{perplexity:.2}")),
        ]
    };
    let mut rows = vec![row(if first.step == 0 { "before" } else { "first" }, first)];
    if ![first.step, last.step].contains(&best.step) {
        rows.push(row("best", best));
    }
    if last.step != first.step {
        rows.push(row(if best.step == last.step { "last, the best" } else { "last" }, last));
    }
    TableView::of("Held-out loss", &["Measured", "Step", "Loss, nats", "Perplexity"], rows)
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
        let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["before", "best", "last"]);
        let improving = held_out(&[point(5, 3.0), point(10, 2.0)]).unwrap();
        let names: Vec<&str> = improving.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["first", "last, the best"]);
        assert!(held_out(&[]).is_none());
    }
}

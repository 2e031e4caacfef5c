//! Results as tables.

use super::results::{Results, Times};
use super::task::Metric;
use std::fmt;

/// Lines of columns, the first left-aligned and the others right-aligned.
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
    /// Columns aligned to the left.
    left: usize,
}

impl Columns {
    pub(crate) fn new(left: usize, head: &[&str]) -> Columns {
        Columns { rows: vec![head.iter().map(|&cell| cell.to_string()).collect()], left }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line += &match column < self.left {
                    true => format!("{gap}{cell:<width$}"),
                    false => format!("{gap}{cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A value as the table shows it: fractions in percent, perplexities unchanged.
pub(crate) fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Perplexity => format!("{value:.3}"),
        _ => format!("{:.2}", 100.0 * value),
    }
}

/// A standard error as the table shows it.
pub(crate) fn shown_error(metric: Metric, error: Option<f64>) -> String {
    error.map_or_else(|| "-".to_string(), |error| format!("±{}", shown(metric, error)))
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Columns::new(1, &["task", "n", "metric", "value", "stderr"]);
        for task in &self.tasks {
            for (place, measured) in task.metrics.iter().enumerate() {
                let metric = measured.metric;
                let first = |text: String| if place == 0 { text } else { String::new() };
                table.push(vec![
                    first(task.task.name().to_string()),
                    first(task.n.to_string()),
                    metric.name().to_string(),
                    shown(metric, measured.value),
                    shown_error(metric, measured.stderr),
                ]);
            }
        }
        for missing in &self.missing {
            table.push(vec![missing.task.name().to_string(), "-".to_string(), "no data".to_string()]);
        }
        write!(f, "{table}")?;
        for id in &self.identity.tasks {
            let published = id.task.published_items();
            if id.items != published {
                let (task, items) = (id.task.name(), id.items);
                writeln!(
                    f,
                    "{task}: {items} of the file's {} items; the published table's data has {published}",
                    id.rows
                )?;
            }
        }
        match &self.average {
            Some(average) => {
                let (value, error) =
                    (shown(Metric::Acc, average.value), shown_error(Metric::Acc, average.stderr));
                writeln!(f, "\naverage of the table's ten tasks (its eleven without gsm8k): {value} {error}")
            }
            None => writeln!(f, "\nno average: it needs the table's ten tasks (its eleven without gsm8k)"),
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} seconds", self.actual)?;
        if let Some(predicted) = self.predicted {
            write!(f, " ({predicted:.0} were predicted)")?;
        }
        match self.runs {
            1 => write!(f, " on {} threads", self.threads),
            runs => write!(f, " in {runs} runs, the last on {} threads", self.threads),
        }
    }
}

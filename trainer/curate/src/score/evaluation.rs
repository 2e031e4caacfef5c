//! How well scores agree with labels.

use super::{MOST, rounded};
use std::fmt;

/// Labels and predictions, both whole, from 0 to 5.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreEvaluation {
    /// How many documents with a label (first index) have a score (second index).
    pub confusion: [[u64; 6]; 6],
    /// The sum of squared differences before rounding.
    squares: f64,
}

impl ScoreEvaluation {
    /// Counts one document.
    pub fn add(&mut self, label: f64, score: f64) {
        self.confusion[rounded(label)][rounded(score)] += 1;
        self.squares += (label - score).powi(2);
    }

    /// Documents.
    pub fn count(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// The mean squared difference of scores and labels.
    pub fn mean_squared_error(&self) -> f64 {
        self.squares / self.count().max(1) as f64
    }

    /// Precision, recall and F1 of telling documents with a label of at least `threshold`; 0 where a share is one of nothing.
    pub fn at(&self, threshold: usize) -> [f64; 3] {
        let sum = |label: &dyn Fn(usize) -> bool, score: &dyn Fn(usize) -> bool| -> f64 {
            let rows = self.confusion.iter().enumerate().filter(|(at, _)| label(*at));
            let cells = rows.flat_map(|(_, row)| row.iter().enumerate().filter(|(at, _)| score(*at)));
            cells.map(|(_, &count)| count as f64).sum()
        };
        let (high, any) = (|at: usize| at >= threshold, |_: usize| true);
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let right = sum(&high, &high);
        let (precision, recall) = (share(right, sum(&any, &high)), share(right, sum(&high, &any)));
        [precision, recall, share(2.0 * precision * recall, precision + recall)]
    }
}

impl fmt::Display for ScoreEvaluation {
    /// The table of labels against scores, and F1 at 3.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label \\ score")?;
        (0..=MOST as usize).try_for_each(|score| write!(f, "{score:>8}"))?;
        writeln!(f)?;
        for (label, row) in self.confusion.iter().enumerate() {
            write!(f, "{label:>13}")?;
            row.iter().try_for_each(|count| write!(f, "{count:>8}"))?;
            writeln!(f)?;
        }
        let [precision, recall, f1] = self.at(3);
        writeln!(f, "at 3 and more: precision {precision:.3}, recall {recall:.3}, F1 {f1:.3}")?;
        write!(f, "mean squared error {:.4} of {} documents", self.mean_squared_error(), self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_table() {
        let mut evaluation = ScoreEvaluation::default();
        assert_eq!(evaluation.at(3), [0.0; 3]);
        for (label, score) in [(3.0, 2.6), (4.0, 2.4), (0.0, 3.2), (5.0, 9.0), (0.0, -4.0), (2.0, 2.0)] {
            evaluation.add(label, score);
        }
        let [precision, recall, f1] = evaluation.at(3);
        for found in [precision, recall, f1] {
            assert!((found - 2.0 / 3.0).abs() < 1e-12, "{found}");
        }
        assert_eq!((evaluation.count(), evaluation.confusion[5][5], evaluation.confusion[4][2]), (6, 1, 1));
        assert!((evaluation.mean_squared_error() - (0.16 + 2.56 + 10.24 + 16.0 + 16.0) / 6.0).abs() < 1e-12);
        assert!(evaluation.to_string().contains("F1 0.667"), "{evaluation}");
    }
}

//! What an evaluation reports while it runs.

use super::task::Task;

/// An event of a running evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EvalEvent {
    /// A task's data is being read.
    Reading(Task),
    /// Items are being tokenized.
    Tokenizing {
        /// How many.
        items: usize,
    },
    /// Earlier runs are resumed.
    Resumed {
        /// Items that are done.
        items: usize,
        /// Seconds they took.
        seconds: f64,
    },
    /// The first items have been timed.
    Predicted {
        /// Seconds of the whole evaluation, earlier runs included.
        total: f64,
        /// Seconds from now on.
        left: f64,
    },
    /// An item is done.
    Done {
        /// Items done, in all runs.
        items: usize,
        /// All items.
        of: usize,
        /// Seconds from now on, once predicted.
        left: Option<f64>,
    },
}

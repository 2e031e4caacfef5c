//! Predicts the duration of an evaluation from timed items.

use super::item_runner::ItemOutcome;
use super::passes::Work;
use super::task::Task;
use thimble_runtime::format::Config;

/// One item of a task in this many is timed first, but at least [`MIN_TIMED`].
const TIMED_ONE_IN: usize = 64;
const MIN_TIMED: usize = 24;

/// Timed and untimed work of each task.
pub(crate) struct Prediction {
    config: Config,
    tasks: Vec<TaskTiming>,
}

struct TaskTiming {
    task: Task,
    left: Amount,
    timed: Amount,
    seconds: f64,
    decode_seconds: f64,
}

#[derive(Clone, Copy, Default)]
struct Amount {
    items: usize,
    effort: f64,
}

/// How many more of a task's items to time if `timed` have been.
pub(crate) fn sample(items: usize, timed: usize) -> usize {
    (items / TIMED_ONE_IN).max(MIN_TIMED).saturating_sub(timed).min(items)
}

impl Prediction {
    pub(crate) fn new(config: &Config, tasks: impl IntoIterator<Item = Task>) -> Prediction {
        let share = |task| TaskTiming {
            task,
            left: Amount::default(),
            timed: Amount::default(),
            seconds: 0.0,
            decode_seconds: 0.0,
        };
        Prediction { config: *config, tasks: tasks.into_iter().map(share).collect() }
    }

    fn share(&mut self, task: Task) -> Option<&mut TaskTiming> {
        self.tasks.iter_mut().find(|share| share.task == task)
    }

    /// Adds the work of an item that is left.
    pub(crate) fn expect(&mut self, task: Task, work: &Work) {
        let effort = work.effort(&self.config);
        if let Some(share) = self.share(task) {
            share.left.items += 1;
            share.left.effort += effort;
        }
    }

    /// Counts a finished item; `expected` is its work if [`Prediction::expect`] had it.
    pub(crate) fn done(&mut self, outcome: &ItemOutcome, expected: Option<&Work>) {
        let effort = outcome.work.effort(&self.config);
        let expected = expected.map(|work| work.effort(&self.config));
        let Some(share) = self.share(outcome.task) else { return };
        share.timed.items += 1;
        share.timed.effort += effort;
        share.seconds += outcome.seconds;
        share.decode_seconds += outcome.decode_seconds;
        if let Some(expected) = expected {
            share.left.items = share.left.items.saturating_sub(1);
            share.left.effort = (share.left.effort - expected).max(0.0);
        }
    }

    /// Seconds that one thread needs for the remaining items: each task's work at the speed of its timed items, plus the
    /// mean generation time for each item. A task without timed items runs at the overall speed.
    pub(crate) fn seconds_left(&self) -> f64 {
        let pace = |seconds: f64, effort: f64| if effort > 0.0 { seconds / effort } else { 0.0 };
        let sum = |part: fn(&TaskTiming) -> f64| self.tasks.iter().map(part).sum::<f64>();
        let common = pace(sum(|share| share.seconds), sum(|share| share.timed.effort));
        let left = |share: &TaskTiming| match share.timed.items {
            0 => share.left.effort * common,
            timed => {
                let decode = share.decode_seconds / timed as f64;
                share.left.effort * pace(share.seconds, share.timed.effort) + share.left.items as f64 * decode
            }
        };
        self.tasks.iter().map(left).sum()
    }
}

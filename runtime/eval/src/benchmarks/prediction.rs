//! How long an evaluation takes, from items that were timed.

use super::answerer::ItemOutcome;
use super::passes::Work;
use super::task::Task;
use thimble_runtime::format::Config;

/// Items of a task that are timed before the rest, spread evenly over it: one in this many, but not fewer than
/// [`LEAST`].
const ONE_IN: usize = 64;
const LEAST: usize = 24;

/// Timed and untimed work of each task.
pub(crate) struct Prediction {
    config: Config,
    tasks: Vec<Share>,
}

struct Share {
    task: Task,
    left: Part,
    timed: Part,
    seconds: f64,
    decode_seconds: f64,
}

#[derive(Clone, Copy, Default)]
struct Part {
    items: usize,
    effort: f64,
}

/// How many of a task's items to time, of which `timed` have been before.
pub(crate) fn sample(items: usize, timed: usize) -> usize {
    (items / ONE_IN).max(LEAST).saturating_sub(timed).min(items)
}

impl Prediction {
    pub(crate) fn new(config: &Config, tasks: impl IntoIterator<Item = Task>) -> Prediction {
        let share = |task| Share {
            task,
            left: Part::default(),
            timed: Part::default(),
            seconds: 0.0,
            decode_seconds: 0.0,
        };
        Prediction { config: *config, tasks: tasks.into_iter().map(share).collect() }
    }

    fn share(&mut self, task: Task) -> Option<&mut Share> {
        self.tasks.iter_mut().find(|share| share.task == task)
    }

    /// An item that has to be done, by what it takes.
    pub(crate) fn expect(&mut self, task: Task, work: &Work) {
        let effort = work.effort(&self.config);
        if let Some(share) = self.share(task) {
            share.left.items += 1;
            share.left.effort += effort;
        }
    }

    /// An item that is done; `expected` is what was expected of it, if it was.
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

    /// Seconds of one thread for what is left: each task's work at the speed that its timed items had, and for each
    /// item the mean time of generation. A task without timed items goes at the speed of all.
    pub(crate) fn seconds_left(&self) -> f64 {
        let pace = |seconds: f64, effort: f64| if effort > 0.0 { seconds / effort } else { 0.0 };
        let sum = |part: fn(&Share) -> f64| self.tasks.iter().map(part).sum::<f64>();
        let common = pace(sum(|share| share.seconds), sum(|share| share.timed.effort));
        let left = |share: &Share| match share.timed.items {
            0 => share.left.effort * common,
            timed => {
                let decode = share.decode_seconds / timed as f64;
                share.left.effort * pace(share.seconds, share.timed.effort) + share.left.items as f64 * decode
            }
        };
        self.tasks.iter().map(left).sum()
    }
}

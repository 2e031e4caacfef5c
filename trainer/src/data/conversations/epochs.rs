//! The order of rows: a function of seed, stage and epoch.

use crate::data::loader::{hash, shuffle};
use std::ops::Range;

/// How the rows of a stage are divided into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochPlan {
    /// Rows of an epoch, at least one.
    pub rows: usize,
    /// Rows of a step; the last step of an epoch takes what is left.
    pub step_rows: usize,
}

impl EpochPlan {
    /// Steps of an epoch.
    pub fn steps(&self) -> u64 {
        self.rows.div_ceil(self.step_rows.max(1)).max(1) as u64
    }

    /// The epoch of a step of the stage, and the places of its rows in the epoch's order.
    pub fn step(&self, step: u64) -> (u64, Range<usize>) {
        let first = (step % self.steps()) as usize * self.step_rows;
        (step / self.steps(), first..(first + self.step_rows).min(self.rows))
    }
}

/// The order of an epoch's rows, which is kept until another epoch is asked for.
#[derive(Clone, Debug, Default)]
pub struct EpochOrder {
    of: Option<(u64, usize, u64, usize)>,
    order: Vec<u32>,
}

impl EpochOrder {
    /// The shuffled rows of an epoch of a stage.
    pub fn shuffled(&mut self, seed: u64, (stage, epoch): (usize, u64), rows: usize) -> &[u32] {
        let of = (seed, stage, epoch, rows);
        if self.of != Some(of) {
            shuffle(&mut self.order, rows as u32, hash(&[seed, stage as u64, epoch]));
            self.of = Some(of);
        }
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_row_once_and_its_last_step_what_is_left() {
        let plan = EpochPlan { rows: 10, step_rows: 4 };
        assert_eq!(plan.steps(), 3);
        let steps: Vec<_> = (0..4).map(|step| plan.step(step)).collect();
        assert_eq!(steps, [(0, 0..4), (0, 4..8), (0, 8..10), (1, 0..4)]);
        let mut order = EpochOrder::default();
        let first = order.shuffled(3, (0, 0), 10).to_vec();
        let second = order.shuffled(3, (0, 1), 10).to_vec();
        assert_ne!(first, second);
        assert_ne!(order.shuffled(3, (1, 0), 10), first);
        assert_eq!(EpochOrder::default().shuffled(3, (0, 1), 10), second);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
}

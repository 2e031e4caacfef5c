//! The order in which examples of files are drawn: a function of seed, stage and step.

use super::loader::{hash, shuffle};

/// Draws examples epoch after epoch, each in an order of its own.
#[derive(Clone, Debug)]
pub struct ExampleOrder {
    count: u32,
    seed: u64,
    /// The stage and epoch of `order`.
    shuffled: Option<(usize, u64)>,
    order: Vec<u32>,
}

impl ExampleOrder {
    /// The order of so many examples, at least one.
    pub fn new(count: usize, seed: u64) -> ExampleOrder {
        ExampleOrder { count: count.max(1) as u32, seed, shuffled: None, order: Vec::new() }
    }

    /// The examples of a stage's step, from 0, of `size` examples. A step may end in the next epoch.
    pub fn step(&mut self, stage: usize, step: u64, size: usize) -> Vec<usize> {
        let count = u64::from(self.count);
        let first = step * size as u64;
        (first..first + size as u64)
            .map(|at| {
                let epoch = at / count;
                if self.shuffled != Some((stage, epoch)) {
                    let key = hash(&[self.seed, stage as u64, epoch]);
                    shuffle(&mut self.order, self.count, key);
                    self.shuffled = Some((stage, epoch));
                }
                self.order[(at % count) as usize] as usize
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::ExampleOrder;

    #[test]
    fn every_epoch_draws_each_example_once_in_another_order() {
        let mut order = ExampleOrder::new(10, 3);
        let steps: Vec<Vec<usize>> = (0..5).map(|step| order.step(0, step, 4)).collect();
        let all = steps.concat();
        for epoch in all.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[..10], all[10..]);
        // Any step alone, and another stage.
        assert_eq!(ExampleOrder::new(10, 3).step(0, 2, 4), steps[2]);
        assert_ne!(ExampleOrder::new(10, 3).step(1, 2, 4), steps[2]);
        assert_ne!(ExampleOrder::new(10, 4).step(0, 2, 4), steps[2]);
    }
}

//! Finds a bad step before it corrupts the weights.

use crate::recipe;
use std::collections::VecDeque;

/// Losses that a mean needs: so many, or the whole window where it is shorter.
const LEAST: usize = 5;

/// Compares each loss with the last ones.
pub(super) struct LossGuard {
    rule: recipe::Guard,
    losses: VecDeque<f64>,
}

impl LossGuard {
    pub(super) fn new(rule: &recipe::Guard, losses: &[f64]) -> LossGuard {
        // A resumed run may have a shorter window.
        let first = losses.len().saturating_sub(rule.window.max(1));
        LossGuard { rule: rule.clone(), losses: losses[first..].iter().copied().collect() }
    }

    /// What is wrong with a step, before its update; the loss of a good step is recorded.
    pub(super) fn check(&mut self, loss: f64, norm: f64) -> Option<String> {
        if !loss.is_finite() {
            return Some(format!("the loss is {loss}"));
        }
        if !norm.is_finite() {
            return Some(format!("the gradient's norm is {norm}, with a loss of {loss:.4}"));
        }
        let window = self.rule.window.max(1);
        if let Some(most) = self.rule.loss_spike
            && self.losses.len() >= window.min(LEAST)
        {
            let steps = self.losses.len();
            let mean = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
            if loss > mean + most {
                return Some(format!(
                    "the loss is {loss:.4}, more than guard.loss_spike = {most} above the mean of the last {steps} steps, {mean:.4}"
                ));
            }
        }
        self.losses.push_back(loss);
        while self.losses.len() > window {
            self.losses.pop_front();
        }
        None
    }

    /// The recorded losses, oldest first.
    pub(super) fn losses(&self) -> Vec<f64> {
        self.losses.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_window_is_compared_with_before_it_is_full() {
        let rule = recipe::Guard { loss_spike: Some(2.0), window: 100, ..Default::default() };
        let mut guard = LossGuard::new(&rule, &[]);
        for loss in [9.0, 12.0, 6.0, 5.0, 3.0] {
            assert_eq!(guard.check(loss, 1.0), None, "{loss}");
        }
        let found = guard.check(9.1, 1.0).unwrap();
        assert!(found.contains("above the mean of the last 5 steps, 7.0000"), "{found}");
        assert_eq!(guard.check(8.9, 1.0), None);
    }

    #[test]
    fn it_stops_at_nan_and_at_spikes_and_lets_the_rest_pass() {
        let rule = recipe::Guard { loss_spike: Some(2.0), window: 3, ..Default::default() };
        let mut guard = LossGuard::new(&rule, &[]);
        assert_eq!(guard.check(9.0, 1.0), None);
        assert_eq!(guard.check(12.0, 1.0), None, "no mean of fewer losses than a short window has");
        assert_eq!(guard.check(3.0, 1.0), None);
        assert!(guard.check(10.1, 1.0).is_some_and(|what| what.contains("mean of the last 3")));
        assert_eq!(guard.check(9.9, 1.0), None);
        assert_eq!(guard.losses(), [12.0, 3.0, 9.9]);
        assert!(guard.check(f64::NAN, 1.0).is_some_and(|what| what.contains("loss is NaN")));
        assert!(guard.check(1.0, f64::INFINITY).is_some_and(|what| what.contains("norm is inf")));
        let mut without = LossGuard::new(&recipe::Guard { window: 1, ..Default::default() }, &[1.0]);
        assert_eq!(without.check(1e9, 1.0), None);
    }
}

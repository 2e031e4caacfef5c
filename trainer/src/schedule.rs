//! Learning rates as functions of the step.

use serde::{Deserialize, Serialize};

/// A learning rate over the steps of one stage: linear warm-up to `peak`, then one of three shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: ScheduleKind,
    /// Learning rate after the warm-up.
    pub peak: f64,
    /// Learning rate at the end (cosine, trapezoidal).
    #[serde(default)]
    pub floor: f64,
    /// Steps of warm-up; step i of n has `peak x (i + 1) / n`.
    #[serde(default)]
    pub warmup: u64,
    /// Share of the stage's steps in the warm-up, instead of `warmup`, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_share: Option<f64>,
    /// Share of the stage's steps in the cool-down (trapezoidal).
    #[serde(default = "fifth")]
    pub cooldown: f64,
}

/// The shape after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// `floor + (peak - floor) / 2 x (1 + cos(pi (i - warmup) / (steps - warmup)))` (Loshchilov and Hutter 2017).
    Cosine,
    /// `peak`, then a straight line to `floor` over the last `cooldown` of the steps (Haegele et al. 2024).
    Trapezoidal,
    /// `peak` to the end.
    Constant,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let warmup = self.warming(steps);
        if step < warmup {
            return self.peak * (step + 1) as f64 / warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => {
                let span = steps.saturating_sub(warmup).max(1) as f64;
                let done = ((step - warmup) as f64 / span).min(1.0);
                self.floor + (self.peak - self.floor) / 2.0 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            ScheduleKind::Trapezoidal => {
                let cooling = self.cooling(steps).max(1) as f64;
                let left = steps.saturating_sub(step) as f64;
                self.floor + (self.peak - self.floor) * (left / cooling).min(1.0)
            }
        }
    }
}

impl Schedule {
    /// Steps of the warm-up in a stage of `steps` steps.
    pub fn warming(&self, steps: u64) -> u64 {
        self.warmup_share.map_or(self.warmup, |share| (share * steps as f64).ceil() as u64)
    }

    /// Steps of the cool-down in a stage of `steps` steps.
    pub fn cooling(&self, steps: u64) -> u64 {
        (self.cooldown * steps as f64).round() as u64
    }
}

fn fifth() -> f64 {
    0.2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, peak: 3e-3, floor: 3e-4, warmup: 2, warmup_share: None, cooldown: 0.2 }
    }

    /// The learning rates of ten steps of a PyTorch run (`reference/train/steps.json` of the shared references).
    #[test]
    fn cosine_has_the_learning_rates_of_the_reference_run() {
        let expected = [
            0.0015,
            0.003,
            0.003,
            0.0028972373688902374,
            0.002604594154601839,
            0.0021666226336928716,
            0.00165,
            0.0011333773663071288,
            0.0006954058453981609,
            0.0004027626311097629,
        ];
        let cosine = schedule(ScheduleKind::Cosine);
        for (step, expected) in expected.into_iter().enumerate() {
            let found = cosine.at(step as u64, 10);
            assert!((found - expected).abs() <= 1e-15 * expected.max(1.0), "step {step}: {found} {expected}");
        }
        assert!((cosine.at(10, 10) - 3e-4).abs() < 1e-18, "the floor is reached after the last step");
        assert_eq!(cosine.at(1000, 10), cosine.at(10, 10), "and kept beyond it");
    }

    #[test]
    fn trapezoidal_holds_the_peak_and_cools_down_in_a_straight_line() {
        let trapezoidal = schedule(ScheduleKind::Trapezoidal);
        let rates: Vec<f64> = (0..20).map(|step| trapezoidal.at(step, 20)).collect();
        assert_eq!(rates[..2], [1.5e-3, 3e-3]);
        assert!(rates[2..=16].iter().all(|rate| *rate == 3e-3), "{rates:?}");
        // Four steps of cool-down: 4/4 of the way at step 16, 1/4 at step 19, none at the end.
        for (step, quarters) in [(17, 3.0), (18, 2.0), (19, 1.0)] {
            let expected = 3e-4 + 2.7e-3 * quarters / 4.0;
            assert!((rates[step] - expected).abs() < 1e-15, "step {step}: {} {expected}", rates[step]);
        }
        assert!((trapezoidal.at(20, 20) - 3e-4).abs() < 1e-15);
    }

    #[test]
    fn a_cool_down_split_over_two_stages_is_one_line() {
        let whole = Schedule {
            peak: 1.0,
            floor: 0.0,
            warmup: 0,
            cooldown: 0.4,
            ..schedule(ScheduleKind::Trapezoidal)
        };
        let first = Schedule { floor: 0.25, cooldown: 30.0 / 90.0, ..whole.clone() };
        let second = Schedule { peak: 0.25, cooldown: 1.0, ..whole.clone() };
        for step in 0..100 {
            let split = if step < 90 { first.at(step, 90) } else { second.at(step - 90, 10) };
            assert!((split - whole.at(step, 100)).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn a_share_of_warm_up_follows_the_length_of_the_stage() {
        let tenth = Schedule { warmup: 0, warmup_share: Some(0.1), ..schedule(ScheduleKind::Cosine) };
        assert_eq!([0, 1, 10, 11, 1000].map(|steps| tenth.warming(steps)), [0, 1, 1, 2, 100]);
        let steps = Schedule { warmup: 100, ..schedule(ScheduleKind::Cosine) };
        for step in [0, 50, 99, 100, 700] {
            assert_eq!(tenth.at(step, 1000), steps.at(step, 1000), "step {step}");
        }
    }

    #[test]
    fn constant_stays_and_short_or_empty_stages_do_not_panic() {
        let constant = schedule(ScheduleKind::Constant);
        assert_eq!([0, 1, 2, 999].map(|step| constant.at(step, 1000)), [1.5e-3, 3e-3, 3e-3, 3e-3]);
        for kind in [ScheduleKind::Cosine, ScheduleKind::Trapezoidal, ScheduleKind::Constant] {
            for steps in 0..4 {
                for step in 0..6 {
                    let rate = Schedule { warmup: 0, ..schedule(kind) }.at(step, steps);
                    assert!((3e-4..=3e-3).contains(&rate), "{kind:?} {step} of {steps}: {rate}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_a_stage_is_said() {
        let misfit = |warmup, kind, steps| Schedule { warmup, ..schedule(kind) }.misfit(steps).map(|m| m.0);
        assert_eq!(misfit(11, ScheduleKind::Cosine, 10), Some("warmup"));
        assert_eq!(misfit(10, ScheduleKind::Cosine, 10), None);
        assert_eq!(misfit(9, ScheduleKind::Trapezoidal, 10), Some("cooldown"));
        assert_eq!(misfit(8, ScheduleKind::Trapezoidal, 10), None);
    }
}

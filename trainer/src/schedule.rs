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
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => {
                let span = steps.saturating_sub(self.warmup).max(1) as f64;
                let done = ((step - self.warmup) as f64 / span).min(1.0);
                self.floor + (self.peak - self.floor) / 2.0 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            ScheduleKind::Trapezoidal => {
                let cooling = (self.cooldown * steps as f64).round().max(1.0);
                let left = steps.saturating_sub(step) as f64;
                self.floor + (self.peak - self.floor) * (left / cooling).min(1.0)
            }
        }
    }
}

fn fifth() -> f64 {
    0.2
}

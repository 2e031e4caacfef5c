//! What a bench found, as text of at most 80 columns and as JSON.

use crate::prediction::GpuModel;
use crate::units::{bytes, grouped};
use serde::Serialize;
use std::fmt::{self, Display};

/// A kernel's time in one micro-batch, all layers together; that of the optimizer's kernels is their share of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeasuredKernel {
    /// As in the prediction.
    pub name: &'static str,
    /// Launches in one micro-batch, or one step.
    pub launches: usize,
    /// Measured; none in a rehearsal.
    pub seconds: Option<f64>,
    /// Predicted; none for what is not.
    pub predicted_seconds: Option<f64>,
    /// What its FLOPs or bytes take at the data sheet's limits.
    pub limit_seconds: Option<f64>,
}

impl MeasuredKernel {
    /// Share of the data sheet's limit that it reaches.
    pub fn share_of_limit(&self) -> Option<f64> {
        Some(self.limit_seconds? / self.seconds?)
    }
}

/// Whole optimizer steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasuredSteps {
    /// How many.
    pub steps: usize,
    /// By the median step; none in a rehearsal.
    pub tokens_per_second: Option<f64>,
    /// Share of the dense peak, attention by the causal half; none if the GPU is not known.
    pub mfu: Option<f64>,
    /// Seconds of the median step.
    pub median_seconds: Option<f64>,
    /// Nats per token of each step.
    pub losses: Vec<f64>,
}

/// What a bench found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// The device.
    pub device: String,
    /// Whether nothing was measured.
    pub rehearsal: bool,
    /// The recipe.
    pub recipe: String,
    /// Sequences of a micro-batch.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// The GPU of the prediction; none if it is not known.
    pub gpu: Option<GpuModel>,
    /// Its dense peak, 1e12 FLOPs per second.
    pub peak_tflops: Option<f64>,
    /// By kernel, the longest first.
    pub kernels: Vec<MeasuredKernel>,
    /// Throughput by the prediction.
    pub predicted_tokens_per_second: Option<f64>,
    /// Whole steps.
    pub steps: MeasuredSteps,
    /// Bytes of the device's memory that were allocated, without the driver's own.
    pub allocated_bytes: u64,
    /// Bytes by the plan.
    pub planned_bytes: u64,
}

impl Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = grouped(self.context as u64);
        writeln!(f, "{}: {}, {} x {context} tokens", self.device, self.recipe, self.sequences)?;
        match self.gpu {
            Some(gpu) if self.rehearsal => {
                writeln!(f, "A rehearsal: nothing is measured. Predicted for {}.", gpu.sheet().name)?;
            }
            Some(_) => {}
            None => writeln!(f, "No data sheet of this GPU is known, so nothing is predicted.")?,
        }
        writeln!(
            f,
            "\n  {:<33}{:>9}{:>11}{:>12}{:>11}",
            "ms of a micro-batch", "launches", "measured", "predicted", "of limit"
        )?;
        let number =
            |seconds: Option<f64>| seconds.map_or("-".into(), |seconds| format!("{:.3}", 1e3 * seconds));
        let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.0}%", 100.0 * share));
        for kernel in &self.kernels {
            writeln!(
                f,
                "  {:<33}{:>9}{:>11}{:>12}{:>11}",
                kernel.name,
                kernel.launches,
                number(kernel.seconds),
                number(kernel.predicted_seconds),
                percent(kernel.share_of_limit())
            )?;
        }
        let sum = |of: fn(&MeasuredKernel) -> Option<f64>| {
            let known: Vec<f64> = self.kernels.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum())
        };
        let (measured, predicted) = (sum(|kernel| kernel.seconds), sum(|kernel| kernel.predicted_seconds));
        writeln!(f, "  {:<42}{:>11}{:>12}", "total", number(measured), number(predicted))?;
        let rate = |rate: Option<f64>| rate.map_or("-".into(), |rate| grouped(rate.round() as u64));
        let (measured, predicted) = (self.steps.tokens_per_second, self.predicted_tokens_per_second);
        writeln!(f, "  {:<42}{:>11}{:>12}", "tokens/s of whole steps", rate(measured), rate(predicted))?;
        let mfu = self.steps.mfu.map_or("-".into(), |share| format!("{:.1}%", 100.0 * share));
        writeln!(f, "  {:<42}{mfu:>11}", "MFU, of the dense peak")?;
        if let (Some(first), Some(last)) = (self.steps.losses.first(), self.steps.losses.last()) {
            writeln!(f, "Loss of {} steps: {first:.4} to {last:.4} nats", self.steps.steps)?;
        }
        let (allocated, planned) = (bytes(self.allocated_bytes), bytes(self.planned_bytes));
        writeln!(f, "Memory: {allocated} allocated, {planned} planned")
    }
}

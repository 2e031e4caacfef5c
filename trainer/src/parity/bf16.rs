//! Ten steps in bf16 against PyTorch's, within the noise of bf16.
//!
//! The folder is what `tests/golden/train/bf16.py` writes: the same steps in f32, and in bf16 with two implementations of
//! attention, whose distances from each other are the noise.

use super::distance::distance;
use super::steps::{Hyperparameters, batch, read_steps};
use crate::error::{Error, Result};
use crate::export::read_model;
use crate::model::{Engine, EngineOptions, Parameters};
use crate::ops::{AdamW, Buffer, BufferLengths, Ops};
use crate::weights::read_weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use thimble_runtime::format::Config;

/// What tells the folder from one in f32.
pub(super) const FILE: &str = "update-bf16.safetensors";
/// Losses may be farther from f32 than PyTorch's by this factor: ten of them are a small sample.
const LOSSES: f64 = 1.5;

/// Distances of a run from one of PyTorch's: norm of the difference over the norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunDistance {
    /// Of the steps' losses.
    pub losses: f64,
    /// Of the change of all weights.
    pub update: f64,
}

/// How far the engine is from PyTorch's runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bf16Parity {
    /// The device and its operations.
    pub device: String,
    /// From its f32 run.
    pub to_f32: RunDistance,
    /// From its bf16 run.
    pub to_bf16: RunDistance,
    /// Of its bf16 runs from its f32 run, the larger one.
    pub noise: RunDistance,
}

impl Bf16Parity {
    /// Whether it is no farther from f32 than PyTorch's bf16 is, and from that no farther than two independent errors of that
    /// size add up to.
    pub fn holds(&self) -> bool {
        let within = |found: RunDistance, factor: f64| {
            found.losses < factor * LOSSES * self.noise.losses && found.update < factor * self.noise.update
        };
        within(self.to_f32, 1.0) && within(self.to_bf16, 2f64.sqrt())
    }
}

#[derive(Deserialize)]
struct ReferenceSteps {
    batches: Vec<Vec<Vec<u32>>>,
    adamw: Hyperparameters,
    learning_rates: Vec<f64>,
    /// By run.
    losses: BTreeMap<String, Vec<f64>>,
    /// By pair of runs.
    noise: BTreeMap<String, Noise>,
}

#[derive(Clone, Copy, Deserialize)]
struct Noise {
    losses: f64,
    update: f64,
}

/// Runs the folder's steps on the device that `device` makes for a model and its number of parameters.
///
/// # Errors
/// A file of the folder is missing or malformed.
pub(super) fn bf16_parity<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<Bf16Parity> {
    let (config, start) = read_model(folder)?;
    let steps: ReferenceSteps = read_steps(folder)?;
    let lacking = |what: &str| {
        Error::Invalid(format!("{}: expected {what}, found none", folder.join("steps.json").display()))
    };
    let noise =
        |pair: &str| steps.noise.get(pair).copied().ok_or_else(|| lacking(&format!("the noise of {pair}")));
    let (one, other) = (noise("bf16 to f32")?, noise("bf16_sdpa to f32")?);

    let ops = device(&config, Parameters::new(&config).len.into())?;
    let mut engine = Engine::new(&config, EngineOptions::default(), ops);
    engine.write(Buffer::Weights, &start)?;
    let mut losses = Vec::new();
    for ((rows, &learning_rate), step) in steps.batches.iter().zip(&steps.learning_rates).zip(1..) {
        let batch = batch(rows);
        engine.zero_gradients()?;
        engine.accumulate(&batch)?;
        losses.push((engine.take_loss()? / (batch.sequences * batch.context) as f64) as f32);
        let norm = engine.gradient_norm()?;
        let hyper = &steps.adamw;
        engine.update(AdamW {
            learning_rate,
            beta1: hyper.beta1,
            beta2: hyper.beta2,
            epsilon: hyper.epsilon,
            weight_decay: hyper.weight_decay_on_matrices,
            step,
            gradient_scale: AdamW::clip(norm, Some(hyper.clip)),
            decayed: 0,
        })?;
    }
    let mut weights = vec![0.0; start.len()];
    engine.read(Buffer::Weights, &mut weights)?;
    let update: Vec<f32> = weights.iter().zip(&start).map(|(after, before)| after - before).collect();
    let to = |run: &str| {
        let expected = steps.losses.get(run).ok_or_else(|| lacking(&format!("the losses of {run}")))?;
        let expected: Vec<f32> = expected.iter().map(|&loss| loss as f32).collect();
        if expected.len() != losses.len() {
            return Err(lacking(&format!("{} losses of {run}", losses.len())));
        }
        let change = read_weights(&folder.join(format!("update-{run}.safetensors")), engine.parameters())?;
        Ok(RunDistance { losses: distance(&losses, &expected), update: distance(&update, &change) })
    };
    let noise = RunDistance { losses: one.losses.max(other.losses), update: one.update.max(other.update) };
    Ok(Bf16Parity { device: engine.device(), to_f32: to("f32")?, to_bf16: to("bf16")?, noise })
}

//! Pretraining: first loss, every gradient tensor, a ten-step loss trajectory, and the weights after it (the manner of
//! llm.c's test_gpt2).
//!
//! The folder holds `config.json`, `model.safetensors`, `gradients.safetensors`, `steps.json` and
//! `after10.safetensors`, as `tests/golden/train/make.py` writes them.

use super::distance::{relative, worst};
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use crate::export::read_model;
use crate::model::{Engine, EngineOptions};
use crate::ops::{AdamW, Buffer, BufferLengths, Ops};
use crate::weights::read_weights;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use thimble_runtime::format::Config;

/// How far the engine is from the reference; all figures are relative.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parity {
    /// Of the first batch's loss.
    pub first_loss_rel: f64,
    /// Norm of the difference over the norm, of the worst gradient tensor.
    pub worst_gradient_rel: f64,
    /// Its name.
    pub worst_gradient: String,
    /// Of the worst loss of the trajectory.
    pub worst_step_loss: f64,
    /// Norm of the difference over the norm, of the worst weight tensor after the last step.
    pub worst_weight_rel: f64,
}

impl Parity {
    /// The bounds for f32: 1e-5 for the first loss, 1e-4 for the rest.
    pub fn holds(&self) -> bool {
        self.first_loss_rel <= 1e-5
            && self.worst_gradient_rel <= 1e-4
            && self.worst_step_loss <= 1e-4
            && self.worst_weight_rel <= 1e-4
    }
}

#[derive(Deserialize)]
struct ReferenceSteps {
    batches: Vec<Vec<Vec<u32>>>,
    first_loss: f64,
    adamw: Hyperparameters,
    trajectory: Vec<ReferenceStep>,
}

#[derive(Deserialize)]
pub(super) struct Hyperparameters {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) epsilon: f64,
    pub(super) weight_decay_on_matrices: f64,
    pub(super) clip: f64,
}

#[derive(Deserialize)]
struct ReferenceStep {
    learning_rate: f64,
    loss: f64,
}

/// Runs the folder's batches on the device that `device` makes for a model and its number of parameters.
///
/// # Errors
/// A file of the folder is missing or malformed.
pub fn parity<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<Parity> {
    let (config, start) = read_model(folder)?;
    let steps: ReferenceSteps = read_steps(folder)?;
    if steps.batches.is_empty() || steps.batches.len() < steps.trajectory.len() {
        return Err(Error::Invalid(format!(
            "{}: {} batches for {} steps",
            folder.join("steps.json").display(),
            steps.batches.len(),
            steps.trajectory.len()
        )));
    }
    let len = crate::model::Parameters::new(&config).len;
    let ops = device(&config, len.into())?;
    let mut engine = Engine::new(&config, EngineOptions::default(), ops);
    let parameters = engine.parameters().clone();
    engine.write(Buffer::Weights, &start)?;

    let batches: Vec<TrainingBatch> = steps.batches.iter().map(|rows| batch(rows)).collect();
    let scale = |batch: &TrainingBatch| 1.0 / (batch.sequences * batch.context) as f64;
    engine.accumulate(&batches[0])?;
    let first_loss = engine.take_loss()? * scale(&batches[0]);
    let reference = read_weights(&folder.join("gradients.safetensors"), &parameters)?;
    let mut gradients = vec![0.0; len];
    engine.read(Buffer::Gradients, &mut gradients)?;
    let (worst_gradient_rel, worst_gradient) = worst(&parameters, &gradients, &reference);

    let mut worst_step_loss = 0.0f64;
    for (index, (step, batch)) in steps.trajectory.iter().zip(&batches).enumerate() {
        engine.zero_gradients()?;
        engine.accumulate(batch)?;
        let loss = engine.take_loss()? * scale(batch);
        worst_step_loss = worst_step_loss.max(relative(loss, step.loss));
        let norm = engine.gradient_norm()?;
        let hyper = &steps.adamw;
        engine.update(AdamW {
            learning_rate: step.learning_rate,
            beta1: hyper.beta1,
            beta2: hyper.beta2,
            epsilon: hyper.epsilon,
            weight_decay: hyper.weight_decay_on_matrices,
            step: index as u64 + 1,
            gradient_scale: AdamW::clip(norm, Some(hyper.clip)),
            decayed: 0,
        })?;
    }
    let mut weights = vec![0.0; len];
    engine.read(Buffer::Weights, &mut weights)?;
    let after = read_weights(&folder.join("after10.safetensors"), &parameters)?;
    Ok(Parity {
        first_loss_rel: relative(first_loss, steps.first_loss),
        worst_gradient_rel,
        worst_gradient,
        worst_step_loss,
        worst_weight_rel: worst(&parameters, &weights, &after).0,
    })
}

/// The folder's `steps.json`.
pub(super) fn read_steps<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    let steps = folder.join("steps.json");
    let text = std::fs::read(&steps).map_err(Error::file(&steps, "read"))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::Invalid(format!("{}: not the form of a parity folder: {error}", steps.display()))
    })
}

pub(super) fn batch(rows: &[Vec<u32>]) -> TrainingBatch {
    let context = rows.first().map_or(0, |row| row.len().saturating_sub(1));
    let tokens = rows.len() * context;
    TrainingBatch::new(rows.len(), context, rows.concat(), vec![0; tokens])
        .weighed((1.0 / tokens as f64) as f32)
}

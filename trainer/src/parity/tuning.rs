//! What the comparisons of tuning share: their figures, the model that they start from, and the trained steps.

use super::distance::{relative, worst};
use crate::error::{Error, Result};
use crate::export::read_model;
use crate::model::{Engine, EngineOptions, Parameters};
use crate::ops::{AdamW, Buffer, BufferLengths, Ops};
use crate::weights::read_weights;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thimble_runtime::format::Config;

/// How far tuning is from a reference; what a folder does not state is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TuningParity {
    /// Examples or answers whose tokens or targets differ.
    pub masks_differing: usize,
    /// Bins of the packing that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins_differing: Option<usize>,
    /// Of the worst loss of a step.
    pub worst_loss_rel: f64,
    /// Of the worst gradient norm of a step, before clipping.
    pub worst_gradient_norm_rel: f64,
    /// Of the worst summed log-probability of an answer, in nats.
    pub worst_logp_abs: f64,
    /// Norm of the difference over the norm, of the worst weight tensor after the last step.
    pub worst_weight_rel: f64,
    /// Its name.
    pub worst_weight: String,
}

impl TuningParity {
    /// The bounds for f32: masks and bins equal, 1e-5 for losses, 1e-4 for gradient norms and weights, 1e-2 nats for
    /// log-probabilities, which are sums over hundreds of tokens.
    pub fn holds(&self) -> bool {
        self.masks_differing == 0
            && self.bins_differing.unwrap_or(0) == 0
            && self.worst_loss_rel <= 1e-5
            && self.worst_gradient_norm_rel <= 1e-4
            && self.worst_logp_abs <= 1e-2
            && self.worst_weight_rel <= 1e-4
    }

    pub(super) fn logp(&mut self, found: f64, expected: f64) {
        let distance = (found - expected).abs();
        self.worst_logp_abs =
            self.worst_logp_abs.max(if distance.is_nan() { f64::INFINITY } else { distance });
    }
}

/// AdamW as the reference ran it.
#[derive(Deserialize)]
pub(super) struct ReferenceOptimizer {
    adamw: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    clip: Option<f64>,
}

/// What the reference says of a step.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct ReferenceStep {
    lr: f64,
    loss: f64,
    grad_norm: f64,
}

/// Reads the description of a folder.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let mut json = serde_json::Deserializer::from_slice(&text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        Error::Invalid(format!("{}: not the form of a parity folder: {error}", path.display()))
    })
}

/// A model at the reference's start.
pub(super) fn start<O: Ops>(
    folder: &Path,
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<Engine<O>> {
    let (config, weights) = read_model(&folder.join("model"))?;
    let ops = device(&config, Parameters::new(&config).lengths())?;
    let mut engine =
        Engine::new(&config, EngineOptions { document_mask: true, ..EngineOptions::default() }, ops);
    engine.write(Buffer::Weights, &weights)?;
    Ok(engine)
}

/// Brings an engine back to the reference's start.
pub(super) fn rewind<O: Ops>(engine: &mut Engine<O>, folder: &Path) -> Result<()> {
    let (_, weights) = read_model(&folder.join("model"))?;
    engine.write(Buffer::Weights, &weights)?;
    let zeros = vec![0.0; engine.parameters().trainable];
    engine.write(Buffer::FirstMoment, &zeros)?;
    engine.write(Buffer::SecondMoment, &zeros)
}

/// Takes the reference's steps; `accumulate` adds the gradient of a step and returns its loss.
pub(super) fn train<O: Ops>(
    engine: &mut Engine<O>,
    (optimizer, steps): (&ReferenceOptimizer, &[ReferenceStep]),
    found: &mut TuningParity,
    mut accumulate: impl FnMut(&mut Engine<O>, usize) -> Result<f64>,
) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        engine.zero_gradients()?;
        let loss = accumulate(engine, index)?;
        let norm = engine.gradient_norm()?;
        found.worst_loss_rel = found.worst_loss_rel.max(relative(loss, step.loss));
        found.worst_gradient_norm_rel = found.worst_gradient_norm_rel.max(relative(norm, step.grad_norm));
        engine.update(AdamW {
            learning_rate: step.lr,
            beta1: optimizer.adamw[0],
            beta2: optimizer.adamw[1],
            epsilon: optimizer.epsilon,
            weight_decay: optimizer.weight_decay,
            step: index as u64 + 1,
            gradient_scale: AdamW::clip(norm, optimizer.clip),
            decayed: 0,
        })?;
    }
    Ok(())
}

/// Compares the weights after the last of `steps` steps.
pub(super) fn compare_weights<O: Ops>(
    engine: &Engine<O>,
    folder: &Path,
    steps: usize,
    found: &mut TuningParity,
) -> Result<()> {
    let parameters = engine.parameters();
    let mut weights = vec![0.0; parameters.len];
    engine.read(Buffer::Weights, &mut weights)?;
    let expected = read_weights(&final_weights(folder, steps)?, parameters)?;
    (found.worst_weight_rel, found.worst_weight) = worst(parameters, &weights, &expected);
    Ok(())
}

/// `after5.safetensors` after five steps, or else the folder's only `after*.safetensors`.
fn final_weights(folder: &Path, steps: usize) -> Result<PathBuf> {
    let usual = folder.join(format!("after{steps}.safetensors"));
    if usual.is_file() {
        return Ok(usual);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::file(folder, "read"))?;
    let mut all: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("after") && name.ends_with(".safetensors")
    });
    match &all[..] {
        [one] => Ok(one.clone()),
        _ => Err(Error::Invalid(format!(
            "{}: expected the weights after {steps} steps in after{steps}.safetensors, found {} files after*.safetensors",
            folder.display(),
            all.len()
        ))),
    }
}

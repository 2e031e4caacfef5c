//! A small model's gradients and training steps on a device against those on the CPU.

use super::distance::relative;
use crate::data::TrainingBatch;
use crate::error::Result;
use crate::model::{Engine, EngineOptions, Parameters, init};
use crate::ops::{AdamW, Buffer, BufferLengths, Ops};
use crate::random::SplitMix;
use serde::Serialize;
use thimble_runtime::format::Config;

/// Heads as wide as the kernels take, three query heads for a key head, and sizes that are no multiple of a tile.
const CONFIG: Config = Config {
    hidden: 192,
    layers: 2,
    heads: 3,
    kv_heads: 1,
    head_dim: 64,
    ffn: 200,
    vocab: 299,
    context: 128,
    ..Config::PLAIN
};
const SEQUENCES: usize = 2;
const CONTEXT: usize = 100;
const STEPS: u64 = 10;
const LEARNING_RATE: f64 = 1e-3;
/// Standard deviation of the matrices.
const INIT_STD: f64 = 0.05;
/// Bounds for bf16 activations: of losses, and of the cosine of gradients.
const LOSS: f64 = 0.01;
const COSINE: f64 = 0.999;

/// How far a device is from the CPU's f32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineParity {
    /// Largest relative difference of a step's loss, the first before any update.
    pub worst_loss: f64,
    /// Smallest cosine of a tensor's first gradient, and that tensor.
    pub worst_cosine: f64,
    /// Its name.
    pub worst_tensor: String,
}

impl EngineParity {
    /// Whether losses and gradients are as close as bf16 lets them be.
    pub fn holds(&self) -> bool {
        self.worst_loss < LOSS && self.worst_cosine > COSINE
    }
}

/// Trains the same model on two devices for ten steps.
///
/// # Errors
/// A device fails.
pub fn compare_engines<A: Ops, B: Ops>(
    found: impl FnOnce(&Config, BufferLengths) -> Result<A>,
    expected: impl FnOnce(&Config, BufferLengths) -> Result<B>,
) -> Result<EngineParity> {
    let parameters = Parameters::new(&CONFIG);
    let (found, expected) = (train(found)?, train(expected)?);
    let losses = found.losses.iter().zip(&expected.losses);
    let worst_loss = losses.map(|(&found, &expected)| relative(found, expected)).fold(0.0, f64::max);
    let (mut worst_cosine, mut worst_tensor) = (f64::INFINITY, String::new());
    for named in parameters.named() {
        let found = cosine(&found.gradients[named.range()], &expected.gradients[named.range()]);
        if found < worst_cosine || found.is_nan() {
            (worst_cosine, worst_tensor) = (found, named.name.clone());
        }
    }
    Ok(EngineParity { worst_loss, worst_cosine, worst_tensor })
}

struct Trained {
    losses: Vec<f64>,
    gradients: Vec<f32>,
}

fn train<O: Ops>(device: impl FnOnce(&Config, BufferLengths) -> Result<O>) -> Result<Trained> {
    let parameters = Parameters::new(&CONFIG);
    let ops = device(&CONFIG, parameters.lengths())?;
    let options = EngineOptions { document_mask: true, ..EngineOptions::default() };
    let mut engine = Engine::new(&CONFIG, options, ops);
    let weights = init::weights(engine.parameters(), INIT_STD, 0);
    engine.write(Buffer::Weights, &weights)?;
    let mut gradients = vec![0.0; engine.parameters().trainable];
    let mut losses = Vec::new();
    for step in 1..=STEPS {
        engine.zero_gradients()?;
        engine.accumulate(&batch(step))?;
        losses.push(engine.take_loss()?);
        if step == 1 {
            engine.read(Buffer::Gradients, &mut gradients)?;
        }
        let norm = engine.gradient_norm()?;
        engine.update(AdamW {
            learning_rate: LEARNING_RATE,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: AdamW::clip(norm, Some(1.0)),
            decayed: engine.parameters().matrices,
        })?;
    }
    Ok(Trained { losses, gradients })
}

/// Random tokens, half of them of a few ids, in documents of some twenty tokens; every seventh target does not count.
fn batch(step: u64) -> TrainingBatch {
    let mut random = SplitMix::new(step, 0);
    let mut below = |n: usize| (random.next() % n as u64) as usize;
    let ids = (0..SEQUENCES * (CONTEXT + 1)).map(|_| {
        let most = if below(2) == 0 { 3 } else { CONFIG.vocab };
        below(most) as u32
    });
    let ids = ids.collect();
    let mut document_start = Vec::new();
    for _ in 0..SEQUENCES {
        let mut start = 0;
        for position in 0..CONTEXT as u32 {
            if below(20) == 0 {
                start = position;
            }
            document_start.push(start);
        }
    }
    let weight = 1.0 / (SEQUENCES * CONTEXT) as f32;
    let mut batch = TrainingBatch::new(SEQUENCES, CONTEXT, ids, document_start).weighed(weight);
    batch.weights.iter_mut().step_by(7).for_each(|weight| *weight = 0.0);
    batch
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::candle::CandleOps;
    use crate::ops::cpu::CpuOps;
    use crate::recipe::Precision;

    fn cpu(config: &Config, lengths: BufferLengths) -> Result<CpuOps> {
        CpuOps::new(2, lengths, config.norm_eps)
    }

    #[test]
    fn bf16_is_within_the_bounds_and_another_rotation_is_not() {
        let candle = |config: &Config, lengths: BufferLengths| {
            CandleOps::new(candle_core::Device::Cpu, Precision::Bf16, lengths, config.norm_eps)
        };
        let found = compare_engines(candle, cpu).unwrap();
        assert!(found.holds() && found.worst_loss > 0.0, "{found:?}");
        let found =
            compare_engines(|config, lengths| CpuOps::new(1, lengths, 100.0 * config.norm_eps), cpu).unwrap();
        assert!(found.worst_loss > 0.0 && found.worst_cosine < 1.0, "{found:?}");
    }
}

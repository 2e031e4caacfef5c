//! Ten steps against PyTorch's bf16 run, within the noise of bf16: `tests/golden/train/bf16.py` ran the same steps in f32,
//! and in bf16 with two implementations of attention.

use crate::setup::{cuda, distance, read};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::export::read_model;
use thimble_trainer::model::{Engine, EngineOptions};
use thimble_trainer::ops::{AdamW, Buffer};
use thimble_trainer::weights::read_weights;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/bf16");

#[derive(Deserialize)]
struct Steps {
    batches: Vec<Vec<Vec<u32>>>,
    adamw: Hyperparameters,
    learning_rates: Vec<f64>,
    losses: HashMap<String, Vec<f64>>,
    noise: HashMap<String, Noise>,
}

#[derive(Deserialize)]
struct Hyperparameters {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay_on_matrices: f64,
    clip: f64,
}

/// Distances of PyTorch's runs from each other.
#[derive(Deserialize)]
struct Noise {
    losses: f64,
    update: f64,
}

#[test]
fn ten_steps_are_within_the_noise_of_pytorchs() {
    let folder = Path::new(FOLDER);
    let (config, start) = read_model(folder).unwrap();
    let steps: Steps = serde_json::from_slice(&std::fs::read(folder.join("steps.json")).unwrap()).unwrap();
    let ops = cuda(&config, start.len());
    let mut engine = Engine::new(&config, EngineOptions::default(), ops);
    engine.write(Buffer::Weights, &start).unwrap();
    let mut losses = Vec::new();
    for ((rows, &learning_rate), step) in steps.batches.iter().zip(&steps.learning_rates).zip(1..) {
        let context = rows[0].len() - 1;
        let tokens = rows.len() * context;
        let batch = TrainingBatch::new(rows.len(), context, rows.concat(), vec![0; tokens])
            .weighed((1.0 / tokens as f64) as f32);
        engine.zero_gradients().unwrap();
        engine.accumulate(&batch).unwrap();
        losses.push((engine.take_loss().unwrap() / tokens as f64) as f32);
        let norm = engine.gradient_norm().unwrap();
        let update = AdamW {
            learning_rate,
            beta1: steps.adamw.beta1,
            beta2: steps.adamw.beta2,
            epsilon: steps.adamw.epsilon,
            weight_decay: steps.adamw.weight_decay_on_matrices,
            step,
            gradient_scale: AdamW::clip(norm, Some(steps.adamw.clip)),
            decayed: 0,
        };
        engine.update(update).unwrap();
    }
    assert_eq!(losses.len(), 10);
    let update: Vec<f32> = read(&engine, Buffer::Weights).iter().zip(&start).map(|(a, b)| a - b).collect();
    let to = |run: &str| {
        let expected =
            read_weights(&folder.join(format!("update-{run}.safetensors")), engine.parameters()).unwrap();
        let expected_losses: Vec<f32> = steps.losses[run].iter().map(|&loss| loss as f32).collect();
        let found = (distance(&losses, &expected_losses), distance(&update, &expected));
        println!("to PyTorch's {run} run: losses {:.1e}, update {:.1e}", found.0, found.1);
        found
    };
    // From the f32 run it is no farther than PyTorch's bf16 is, and from that no farther than two independent errors of
    // that size add up to.
    let noise = &steps.noise["bf16 to f32"];
    let other = &steps.noise["bf16_sdpa to f32"];
    let (of_losses, of_update) = (noise.losses.max(other.losses), noise.update.max(other.update));
    let (exact, bf16) = (to("f32"), to("bf16"));
    assert!(exact.1 < of_update && exact.0 < 1.5 * of_losses, "{exact:?}");
    let both = 2f64.sqrt();
    assert!(bf16.1 < both * of_update && bf16.0 < both * 1.5 * of_losses, "{bf16:?}");
}

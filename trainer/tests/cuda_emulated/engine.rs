//! A training step of a small model against the CPU's engine.

use crate::setup::{SplitMix, batch, cpu, cuda, distance, gradients, shape, weights, worst_cosine};
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, EngineOptions, Parameters, Passes};
use thimble_trainer::ops::{Buffer, Ops, WeightCopy};
use thimble_trainer::recipe::AdapterKeys;

/// Relative difference of a loss, and least cosine of a tensor's gradients.
const LOSS: f64 = 2e-3;
const COSINE: f64 = 0.999;

struct Found {
    loss: f64,
    evaluated: f64,
    token_losses: Vec<f32>,
    logits: Vec<f32>,
    norm: f64,
    gradients: Vec<f32>,
}

/// Two micro-batches of different sizes, one step.
fn step<O: Ops>(mut engine: Engine<O>, weights: &[f32], batches: &[TrainingBatch]) -> Found {
    engine.write(Buffer::Weights, weights).unwrap();
    engine.zero_gradients().unwrap();
    let mut evaluated = 0.0;
    for batch in batches {
        engine.accumulate(batch).unwrap();
        evaluated += engine.evaluate(batch).unwrap();
    }
    let loss = engine.take_loss().unwrap();
    let token_losses = engine.token_losses(&batches[0]).unwrap();
    let logits = engine.next_logits(&[&[3, 1, 4], &[1, 5]]).unwrap().concat();
    let norm = engine.gradient_norm().unwrap();
    Found { loss, evaluated, token_losses, logits, norm, gradients: gradients(&engine) }
}

fn compare(config: &Config, parameters: &Parameters, options: EngineOptions, seed: u64) {
    let mut random = SplitMix(seed);
    let weights = weights(&mut random, parameters);
    let batches = [batch(&mut random, 2, 96, config.vocab), batch(&mut random, 1, 33, config.vocab)];
    let lengths = parameters.lengths();
    let expected =
        step(Engine::with(config, parameters.clone(), options, cpu(config, lengths)), &weights, &batches);
    let found =
        step(Engine::with(config, parameters.clone(), options, cuda(config, lengths)), &weights, &batches);
    let relative = |a: f64, b: f64| (a / b - 1.0).abs();
    let (worst, name) = worst_cosine(parameters, &found.gradients, &expected.gradients);
    let tokens = distance(&found.token_losses, &expected.token_losses);
    let logits = distance(&found.logits, &expected.logits);
    println!(
        "{options:?}: loss {:.1e}, token losses {tokens:.1e}, logits {logits:.1e}, norm {:.1e}, worst cosine {worst:.6} ({name})",
        relative(found.loss, expected.loss),
        relative(found.norm, expected.norm)
    );
    assert!(relative(found.loss, expected.loss) < LOSS, "{} {}", found.loss, expected.loss);
    assert!(relative(found.evaluated, found.loss) < 1e-6);
    assert!(tokens < LOSS && logits < 0.02);
    assert!(relative(found.norm, expected.norm) < 0.01);
    assert!(worst > COSINE, "{name}: {worst}");
    assert_ne!(found.gradients, expected.gradients, "bf16 was not used");
}

#[test]
fn a_step_agrees_with_the_cpu() {
    for (heads, kv_heads, tied, document_mask, activation_checkpointing, z_loss) in [
        (2, 1, true, true, false, None),
        (3, 1, false, true, true, Some(0.01)),
        (2, 2, true, false, true, None),
        (4, 1, true, true, false, Some(0.01)),
    ] {
        let options =
            EngineOptions { document_mask, activation_checkpointing, z_loss, ..EngineOptions::default() };
        let config = shape(heads, kv_heads, tied);
        compare(&config, &Parameters::new(&config), options, heads as u64);
    }
}

#[test]
fn adapters_and_frozen_parts_agree_with_the_cpu() {
    let config = shape(2, 1, true);
    let options = EngineOptions { document_mask: true, ..EngineOptions::default() };
    let adapted = Parameters::with(&config, &[], Some(&AdapterKeys::of_rank(8))).unwrap();
    compare(&config, &adapted, options, 11);
    let frozen = ["embedding", "norms", "layers.0"].map(str::to_owned);
    compare(&config, &Parameters::with(&config, &frozen, None).unwrap(), options, 12);
}

/// Preferences weigh targets by their losses, also negatively.
#[test]
fn weights_that_depend_on_losses_agree_with_the_cpu() {
    fn step<O: Ops>(mut engine: Engine<O>, weights: &[f32], batch: &TrainingBatch) -> (Vec<f32>, Vec<f32>) {
        engine.write(Buffer::Weights, weights).unwrap();
        engine.zero_gradients().unwrap();
        let mut seen = Vec::new();
        let weigh = |losses: &[f32]| {
            seen = losses.to_vec();
            Ok(losses
                .iter()
                .enumerate()
                .map(|(at, loss)| if at % 3 == 0 { 0.0 } else { 0.01 * (loss - 5.5) })
                .collect())
        };
        engine.accumulate_weighed(batch, weigh).unwrap();
        (seen, gradients(&engine))
    }
    let config = shape(2, 1, true);
    let parameters = Parameters::new(&config);
    let mut random = SplitMix(5);
    let weights = weights(&mut random, &parameters);
    let batch = batch(&mut random, 2, 40, config.vocab);
    let options = EngineOptions { document_mask: true, ..EngineOptions::default() };
    let expected = step(Engine::new(&config, options, cpu(&config, parameters.len)), &weights, &batch);
    let found = step(Engine::new(&config, options, cuda(&config, parameters.len)), &weights, &batch);
    assert!(distance(&found.0, &expected.0) < LOSS);
    let (worst, name) = worst_cosine(&parameters, &found.1, &expected.1);
    println!("worst cosine {worst:.6} ({name})");
    assert!(worst > COSINE, "{name}: {worst}");
}

/// The student's weights are the teacher's after rounding.
#[test]
fn distillation_agrees_with_the_cpu() {
    fn step<O: Ops>(mut engine: Engine<O>, weights: &[f32], batch: &TrainingBatch) -> (f64, Vec<f32>) {
        engine.write(Buffer::Weights, &vec![0.5; weights.len()]).unwrap();
        let missing = engine.distill(batch).unwrap_err().to_string();
        assert!(missing.contains("copy Teacher"), "{missing}");
        engine.write(Buffer::Weights, weights).unwrap();
        engine.write_copy(WeightCopy::Teacher, weights).unwrap();
        engine
            .round_weights(&|from, to| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = (from * 16.0).round() / 16.0);
            })
            .unwrap();
        engine.zero_gradients().unwrap();
        engine.distill(batch).unwrap();
        let loss = engine.take_loss().unwrap();
        let again = engine.evaluate_divergence(batch).unwrap();
        assert!((again / loss - 1.0).abs() < 1e-6, "{again} {loss}");
        (loss, gradients(&engine))
    }
    let config = shape(2, 1, true);
    let parameters = Parameters::new(&config);
    let mut random = SplitMix(6);
    let weights = weights(&mut random, &parameters);
    let batch = batch(&mut random, 2, 40, config.vocab);
    let options = EngineOptions { document_mask: true, distillation: true, ..EngineOptions::default() };
    let expected = step(Engine::new(&config, options, cpu(&config, parameters.len)), &weights, &batch);
    let found = step(Engine::new(&config, options, cuda(&config, parameters.len)), &weights, &batch);
    let (worst, name) = worst_cosine(&parameters, &found.1, &expected.1);
    println!("divergence {} for {}, worst cosine {worst:.6} ({name})", found.0, expected.0);
    assert!((found.0 / expected.0 - 1.0).abs() < 0.02);
    assert!(worst > 0.99, "{name}: {worst}");
}

/// The arena is what the engine says, and nothing of that size is allocated beside it.
#[test]
fn memory_is_what_the_engine_reserves() {
    let config = shape(2, 1, true);
    let parameters = Parameters::new(&config);
    let ops = cuda(&config, parameters.len);
    let before = ops.allocated_bytes();
    // f32 weights, gradients and moments, the bf16 copy, and the sum of losses.
    assert_eq!(before, 18 * parameters.len + 8);
    let mut engine = Engine::new(&config, EngineOptions::default(), ops);
    let arena = engine.arena_bytes(2, 64, Passes::Both);
    engine.reserve(2, 64, Passes::Both).unwrap();
    assert_eq!(engine.into_ops().allocated_bytes(), before + arena);
}

//! The loss of distillation against PyTorch, on both devices, and against finite differences.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use std::fs;
use std::path::Path;
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::export::read_model;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::candle::CandleOps;
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{Buffer, Ops, WeightCopy};
use thimble_trainer::recipe::Precision;
use thimble_trainer::weights::read_weights;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train");

/// A teacher, a student, and what PyTorch made of them.
struct Golden {
    config: Config,
    parameters: Parameters,
    teacher: Vec<f32>,
    student: Vec<f32>,
    batch: TrainingBatch,
    divergence: f64,
    gradients: Vec<f32>,
}

fn golden() -> Golden {
    let folder = Path::new(GOLDEN);
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let (config, teacher) = read_model(folder).unwrap();
    let parameters = Parameters::new(&config);
    let read = |name: &str| read_weights(&folder.join(name), &parameters).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_value(json("steps.json")["batches"][0].clone()).unwrap();
    let found = json("distillation.json");
    let context = rows[0].len() - 1;
    let mut batch = TrainingBatch::new(rows.len(), context, rows.concat(), vec![0; rows.len() * context]);
    batch.weights = serde_json::from_value(found["weights"].clone()).unwrap();
    Golden {
        config,
        teacher,
        student: read("after10.safetensors"),
        batch,
        divergence: found["divergence"].as_f64().unwrap(),
        gradients: read("distillation.safetensors"),
        parameters,
    }
}

/// An engine whose masters are of no use, so that a pass that reads them shows.
fn engine<O: Ops>(golden: &Golden, ops: O) -> Engine<O> {
    let options = EngineOptions { distillation: true, ..EngineOptions::default() };
    let mut engine = Engine::new(&golden.config, options, ops);
    engine.write(Buffer::Weights, &vec![0.5; golden.parameters.len]).unwrap();
    engine.write_copy(WeightCopy::Teacher, &golden.teacher).unwrap();
    engine.write_copy(WeightCopy::Rounded, &golden.student).unwrap();
    engine
}

fn cpu(golden: &Golden, threads: usize) -> Engine<CpuOps> {
    engine(golden, CpuOps::new(threads, golden.parameters.len, golden.config.norm_eps).unwrap())
}

/// Divergence and gradients of one step.
fn step<O: Ops>(golden: &Golden, engine: &mut Engine<O>) -> (f64, Vec<f32>) {
    engine.zero_gradients().unwrap();
    engine.distill(&golden.batch).unwrap();
    let divergence = engine.take_loss().unwrap();
    let mut gradients = vec![0.0; golden.parameters.len];
    engine.read(Buffer::Gradients, &mut gradients).unwrap();
    (divergence, gradients)
}

fn agrees<O: Ops>(golden: &Golden, engine: &mut Engine<O>) {
    let (divergence, gradients) = step(golden, engine);
    assert!((divergence / golden.divergence - 1.0).abs() < 1e-5, "{divergence} for {}", golden.divergence);
    for named in golden.parameters.named() {
        let (found, expected) = (&gradients[named.range()], &golden.gradients[named.range()]);
        let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        let relative = norm(&off) / norm(expected);
        assert!(relative < 1e-4, "{}: off by {relative:.1e} of its norm", named.name);
    }
    let again = engine.evaluate_divergence(&golden.batch).unwrap();
    assert!((again / divergence - 1.0).abs() < 1e-6, "{again} for {divergence}");
}

#[test]
fn the_step_agrees_with_pytorch() {
    let golden = golden();
    agrees(&golden, &mut cpu(&golden, 2));
    let (len, epsilon) = (golden.parameters.len, golden.config.norm_eps);
    agrees(&golden, &mut engine(&golden, CandleOps::new(Device::Cpu, Precision::F32, len, epsilon).unwrap()));
}

#[test]
fn threads_do_not_change_a_bit() {
    let golden = golden();
    let one = step(&golden, &mut cpu(&golden, 1));
    for threads in [2, 3] {
        let found = step(&golden, &mut cpu(&golden, threads));
        assert!(found == one, "{threads} threads");
    }
}

#[test]
fn gradients_are_the_slopes_of_the_divergence() {
    let golden = golden();
    let mut engine = cpu(&golden, 1);
    let (_, gradients) = step(&golden, &mut engine);
    // Of the weighted mean: without weights that differ, as the sum is without them.
    let used = golden.batch.weights.iter().filter(|&&weight| weight != 0.0).count() as f64;
    let largest = |range: std::ops::Range<usize>| {
        range.max_by(|&a, &b| gradients[a].abs().total_cmp(&gradients[b].abs())).unwrap()
    };
    for named in golden.parameters.named() {
        let at = largest(named.range());
        let mut sums = [0.0; 2];
        for (sum, step) in sums.iter_mut().zip([1e-2f32, -1e-2]) {
            let mut moved = golden.student.clone();
            moved[at] += step;
            engine.write_copy(WeightCopy::Rounded, &moved).unwrap();
            *sum = engine.evaluate_divergence(&golden.batch).unwrap() / used;
        }
        let slope = (sums[0] - sums[1]) / 2e-2;
        let gradient = f64::from(gradients[at]);
        assert!(
            (slope - gradient).abs() < 0.02 * gradient.abs() + 1e-5,
            "{}: {gradient} for {slope}",
            named.name
        );
    }
}

#[test]
fn a_teacher_agrees_with_itself() {
    let golden = golden();
    let mut engine = cpu(&golden, 2);
    engine.write_copy(WeightCopy::Rounded, &golden.teacher).unwrap();
    let (divergence, gradients) = step(&golden, &mut engine);
    assert!(divergence.abs() < 1e-5, "{divergence}");
    assert!(gradients.iter().all(|gradient| gradient.abs() < 1e-6));
}

#[test]
fn what_is_missing_is_named() {
    let golden = golden();
    let ops = || CpuOps::new(1, golden.parameters.len, golden.config.norm_eps).unwrap();
    let options = EngineOptions { distillation: true, ..EngineOptions::default() };
    let error = Engine::new(&golden.config, options, ops()).distill(&golden.batch).unwrap_err();
    assert!(error.to_string().contains("copy Teacher"), "{error}");
    let error =
        Engine::new(&golden.config, EngineOptions::default(), ops()).distill(&golden.batch).unwrap_err();
    assert!(error.to_string().contains("EngineOptions::distillation"), "{error}");
}

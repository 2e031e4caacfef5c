//! The engine against PyTorch, against itself in other arrangements, and against finite differences.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::{Engine, EngineOptions, Parameters, init};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{AdamW, Buffer};
use thimble_trainer::parity::{Comparison, compare, parity};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train");

fn check(folder: &Path) {
    let found = parity(folder, |config, parameters| CpuOps::new(2, parameters, config.norm_eps)).unwrap();
    println!("{}: {found:?}", folder.display());
    assert!(found.holds(), "{found:?}");
}

#[test]
fn the_engine_agrees_with_pytorch() {
    check(Path::new(GOLDEN));
}

#[test]
fn the_engine_agrees_with_pytorch_on_the_shared_reference() {
    let Some(shared) = thimble_needs::shared() else { return };
    check(&shared.join("reference/train"));
}

/// Masks, bins, losses, gradient norms, log-probabilities and weights of TRL's SFT and DPO.
#[test]
fn tuning_agrees_with_trl() {
    let folders = ["sft", "dpo"];
    let mut all = folders.map(|name| Path::new(GOLDEN).join(name)).to_vec();
    if let Some(shared) = thimble_needs::shared() {
        all.extend(folders.map(|name| shared.join("reference").join(name)));
    }
    for folder in all {
        let device = |config: &Config, buffers| CpuOps::new(2, buffers, config.norm_eps);
        let found = compare(&folder, device).unwrap();
        println!("{}: {found:?}", folder.display());
        assert!(found.holds(), "{found:?}");
        let Comparison::Tuning(found) = found else { panic!("{found:?}") };
        assert!(found.worst_logp_abs <= 1e-3);
        assert_eq!(found.bins_differing, folder.ends_with("sft").then_some(0));
    }
}

/// The command, its exit code and its JSON; and that it sees one weight in ten thousand being another.
#[test]
fn the_command_tells_a_folder_that_differs() {
    let command = |folder: &Path| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble-train"));
        command.arg("parity").arg(folder).arg("--json").output().unwrap()
    };
    let good = command(Path::new(GOLDEN));
    assert!(good.status.success(), "{good:?}");
    let json: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    for (key, bound) in [
        ("first_loss_rel", 1e-5),
        ("worst_gradient_rel", 1e-4),
        ("worst_step_loss", 1e-4),
        ("worst_weight_rel", 1e-4),
    ] {
        assert!(json[key].as_f64().is_some_and(|value| value <= bound), "{key}: {json}");
    }
    assert!(json["worst_gradient"].as_str().is_some_and(|name| name.ends_with(".weight")), "{json}");

    let folder = tempfile::tempdir().unwrap();
    let files = fs::read_dir(GOLDEN).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    for entry in files {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    for (name, value) in [
        ("model.safetensors", 0.5f32),
        ("model.safetensors", f32::NAN),
        ("gradients.safetensors", 0.5),
        ("after10.safetensors", 0.5),
    ] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let output = command(folder.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("differs from the reference"), "{name}: {said}");
        fs::write(&path, whole).unwrap();
    }
    assert!(command(folder.path()).status.success());
    fs::remove_file(folder.path().join("steps.json")).unwrap();
    let output = command(folder.path());
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("expected a folder with steps.json, sft.json or dpo.json"),
        "{output:?}"
    );
}

fn shape(tied: bool) -> Config {
    Config {
        hidden: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 10,
        ffn: 48,
        vocab: 300,
        context: 1024,
        tied,
        ..Config::PLAIN
    }
}

fn engine(shape: &Config, options: EngineOptions, threads: usize) -> Engine<CpuOps> {
    let parameters = Parameters::new(shape);
    let ops = CpuOps::new(threads, parameters.len, shape.norm_eps).unwrap();
    let mut engine = Engine::new(shape, options, ops);
    engine.write(Buffer::Weights, &weights(shape)).unwrap();
    engine
}

/// Initial weights, with norms that are not all one.
fn weights(shape: &Config) -> Vec<f32> {
    let parameters = Parameters::new(shape);
    let mut weights = init::weights(&parameters, 0.1, 5);
    let mut next = numbers(11);
    weights[parameters.matrices..].iter_mut().for_each(|x| *x += 0.3 * (next() - 0.5) as f32);
    weights
}

/// Numbers in 0..1 that look random.
fn numbers(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    }
}

fn ids(count: usize, seed: u64) -> Vec<u32> {
    let mut next = numbers(seed);
    (0..count).map(|_| (next() * 300.0) as u32).collect()
}

/// Windows with documents that begin at `starts`.
fn batch(sequences: usize, context: usize, starts: &[usize]) -> TrainingBatch {
    let document_start = (0..context).map(|position| {
        starts.iter().rev().find(|start| **start <= position).map_or(0, |start| *start as u32)
    });
    let document_start: Vec<u32> = document_start.collect();
    TrainingBatch::new(
        sequences,
        context,
        ids(sequences * (context + 1), 3),
        document_start.repeat(sequences),
    )
}

fn gradients(engine: &Engine<CpuOps>) -> Vec<f32> {
    let mut gradients = vec![0.0; engine.parameters().len];
    engine.read(Buffer::Gradients, &mut gradients).unwrap();
    gradients
}

/// Losses, gradients and weights of three steps, as bits.
fn three_steps(options: EngineOptions, threads: usize) -> Vec<u64> {
    let mut engine = engine(&shape(true), options, threads);
    let (one, two) = (batch(3, 300, &[130, 270]), batch(2, 70, &[]));
    let mut bits = Vec::new();
    for step in 1..=3 {
        engine.zero_gradients().unwrap();
        for batch in [&one, &two] {
            engine.accumulate(&batch.clone().weighed(1e-3)).unwrap();
            bits.push(engine.take_loss().unwrap().to_bits());
        }
        let norm = engine.gradient_norm().unwrap();
        bits.push(norm.to_bits());
        bits.extend(gradients(&engine).iter().map(|x| u64::from(x.to_bits())));
        let rule = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: AdamW::clip(norm, Some(0.5)),
            decayed: 0,
        };
        engine.update(rule).unwrap();
        bits.extend(engine.token_losses(&one).unwrap().iter().map(|x| u64::from(x.to_bits())));
    }
    let mut weights = vec![0.0f32; engine.parameters().len];
    engine.read(Buffer::Weights, &mut weights).unwrap();
    bits.extend(weights.iter().map(|x| u64::from(x.to_bits())));
    bits
}

#[test]
fn threads_and_activation_checkpointing_change_no_bit() {
    let options = EngineOptions { document_mask: true, z_loss: Some(1e-3), ..EngineOptions::default() };
    let expected = three_steps(options, 1);
    for threads in [2, 3, 5] {
        assert!(three_steps(options, threads) == expected, "{threads} threads");
    }
    let options = EngineOptions { activation_checkpointing: true, ..options };
    for threads in [1, 2] {
        assert!(three_steps(options, threads) == expected, "checkpointing, {threads} threads");
    }
    let without = three_steps(EngineOptions { document_mask: false, ..options }, 1);
    assert!(without != expected, "the mask does something");
}

/// A packed window of documents against each document alone. Rotary positions are relative, so that they begin
/// elsewhere changes nothing but the rounding. Documents begin on all sides of the blocks that attention works in.
#[test]
fn masked_documents_do_not_see_each_other() {
    let starts = [0, 3, 120, 128, 129, 255, 300, 520, 599];
    let window = batch(1, 600, &starts);
    let mut packed =
        engine(&shape(true), EngineOptions { document_mask: true, ..EngineOptions::default() }, 2);
    let mut alone = engine(&shape(true), EngineOptions::default(), 2);
    let losses = packed.token_losses(&window).unwrap();
    packed.accumulate(&window).unwrap();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(600);
        let (ids, len) = (window.ids[start..=end].to_vec(), end - start);
        let document = TrainingBatch::new(1, len, ids, vec![0; len]);
        let expected = alone.token_losses(&document).unwrap();
        for (position, (a, b)) in losses[start..end].iter().zip(&expected).enumerate() {
            assert!((a - b).abs() < 2e-5, "document at {start}, position {position}: {a} and {b}");
        }
        alone.accumulate(&document).unwrap();
    }
    let distance = distance(&gradients(&packed), &gradients(&alone));
    assert!(distance < 1e-5, "{distance:e}");
    // Without the mask they do.
    let seen = alone.token_losses(&window).unwrap();
    assert!(seen.iter().zip(&losses).any(|(a, b)| (a - b).abs() > 1e-2));
}

/// Norm of the difference over the norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 =
        found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (difference / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

/// What the gradient is of, in f64 from the logits: mean of the cross-entropy and of the weighted squared
/// log-partition.
fn objective(engine: &mut Engine<CpuOps>, batch: &TrainingBatch, z_loss: f64) -> f64 {
    let mut sum = 0.0;
    for row in batch.ids.chunks_exact(batch.context + 1) {
        for position in 0..batch.context {
            let logits = engine.logits(&row[..=position]).unwrap();
            let partition = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
            sum += partition - f64::from(logits[row[position + 1] as usize]) + z_loss * partition * partition;
        }
    }
    sum / (batch.sequences * batch.context) as f64
}

/// How far the weights are moved either way: the third derivative's share falls with its square, the rounding's rises.
const DISTANCE: f64 = 4e-3;

/// Every tensor's gradient along itself and along random directions, by central differences.
fn differences_agree(shape: &Config, z_loss: Option<f64>) {
    let window = batch(2, 12, &[]);
    let mut engine = engine(shape, EngineOptions { z_loss, ..EngineOptions::default() }, 1);
    let parameters = engine.parameters().clone();
    engine.zero_gradients().unwrap();
    engine.accumulate(&window.clone().weighed(1.0 / 24.0)).unwrap();
    let gradients = gradients(&engine);
    let start = weights(shape);
    let mut next = numbers(17);
    let mut worst = 0.0f64;
    for named in parameters.named() {
        let gradient = &gradients[named.range()];
        let norm = gradient.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-4, "{}: {norm}", named.name);
        let along: Vec<f64> = gradient.iter().map(|&x| f64::from(x)).collect();
        let random: Vec<f64> = gradient.iter().map(|_| next() - 0.5).collect();
        for (what, direction) in [("itself", along), ("a random direction", random)] {
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let step = DISTANCE / length;
            let mut at = |sign: f64| {
                let mut moved = start.clone();
                for (weight, d) in moved[named.range()].iter_mut().zip(&direction) {
                    *weight += (sign * step * d) as f32;
                }
                engine.write(Buffer::Weights, &moved).unwrap();
                objective(&mut engine, &window, z_loss.unwrap_or(0.0))
            };
            let found = (at(1.0) - at(-1.0)) / (2.0 * DISTANCE);
            let expected: f64 =
                gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d / length).sum();
            worst = worst.max((found - expected).abs() / norm);
            assert!(
                (found - expected).abs() < 5e-4 * norm + 5e-5,
                "{} along {what}: differences give {found}, the gradient {expected}, its norm is {norm}",
                named.name
            );
        }
    }
    assert_eq!(parameters.find("lm_head.weight").is_some(), !shape.tied);
    println!("worst difference {worst:.1e} of its tensor's norm");
}

#[test]
fn gradients_are_those_of_finite_differences() {
    differences_agree(&shape(true), None);
    differences_agree(&shape(false), None);
}

#[test]
fn the_gradient_of_z_loss_is_that_of_finite_differences() {
    differences_agree(&shape(true), Some(0.1));
    differences_agree(&shape(false), Some(0.1));
}

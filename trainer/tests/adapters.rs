//! Low-rank adapters and frozen parts: against PyTorch and PEFT, finite differences, and a model that trains everything.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::export::read_config;
use thimble_trainer::frozen::frozen_hash;
use thimble_trainer::merge::merge;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::candle::{Blocks, CandleOps};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{AdamW, Buffer, Ops};
use thimble_trainer::peft::{self, PeftAdapter};
use thimble_trainer::recipe::{AdapterKeys, Precision};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// A case of `tests/golden/train/adapters.py`.
struct Case {
    name: &'static str,
    config: Config,
    keys: AdapterKeys,
    parameters: Parameters,
    losses: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let (adapters, families) = (json("train/adapters.json"), json("train/families.json"));
    let case = |name: &'static str| {
        let case = &adapters[name];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let model = case["model"].as_str().unwrap();
        std::fs::write(&path, families["cases"][model]["config"].to_string()).unwrap();
        let config = read_config(&path).unwrap();
        let keys: AdapterKeys = serde_json::from_value(serde_json::json!({
            "rank": case["rank"], "alpha": case["alpha"], "matrices": case["modules"],
        }))
        .unwrap();
        let parameters = Parameters::with(&config, &[], Some(&keys)).unwrap();
        let losses = serde_json::from_value(case["losses"].clone()).unwrap();
        Case { name, config, keys, parameters, losses }
    };
    vec![case("all"), case("some")]
}

fn batch() -> TrainingBatch {
    let rows: Vec<Vec<u32>> = serde_json::from_value(json("train/families.json")["batch"].clone()).unwrap();
    let context = rows[0].len() - 1;
    let tokens = rows.len() * context;
    TrainingBatch::new(rows.len(), context, rows.concat(), vec![0; tokens])
        .weighed((1.0 / tokens as f64) as f32)
}

/// The weights of `families.py`, by the tensors' names.
fn weights(parameters: &Parameters) -> Vec<f32> {
    let mut weights = vec![0.0; parameters.len];
    for named in parameters.named() {
        let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let mut state = named.name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
        let centre = if named.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        for weight in &mut weights[named.range()] {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 33) as f64 / f64::from(1u32 << 31);
            *weight = ((number - 0.5) * 0.6 + centre) as f32;
        }
    }
    weights
}

fn cpu(config: &Config, parameters: &Parameters, threads: usize) -> CpuOps {
    CpuOps::new(threads, parameters.lengths(), config.norm_eps).unwrap()
}

fn candle(config: &Config, parameters: &Parameters) -> CandleOps {
    let ops = CandleOps::new(Device::Cpu, Precision::F32, parameters.lengths(), config.norm_eps).unwrap();
    ops.with_blocks(Blocks { queries: 7, scores: 400, loss_tokens: 10 })
}

fn engine<O: Ops>(config: &Config, parameters: &Parameters, options: EngineOptions, ops: O) -> Engine<O> {
    let mut engine = Engine::with(config, parameters.clone(), options, ops);
    engine.write(Buffer::Weights, &weights(parameters)).unwrap();
    engine
}

/// Loss and gradients of a batch.
fn accumulate<O: Ops>(engine: &mut Engine<O>, batch: &TrainingBatch) -> (f64, Vec<f32>) {
    engine.zero_gradients().unwrap();
    engine.accumulate(batch).unwrap();
    let loss = engine.take_loss().unwrap() / (batch.sequences * batch.context) as f64;
    let mut gradients = vec![0.0; engine.parameters().trainable];
    engine.read(Buffer::Gradients, &mut gradients).unwrap();
    (loss, gradients)
}

/// Norm of the difference over the norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(&mut found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    (difference / square(&mut expected.iter().map(|&b| f64::from(b)))).sqrt()
}

/// Steps of AdamW against those of PyTorch.
fn follow<O: Ops>(case: &Case, what: &str, options: EngineOptions, ops: O) {
    let bytes = std::fs::read(golden("train/adapters.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let expected = |kind: &str, tensor: &str| -> Vec<f32> {
        let tensor = tensors.tensor(&format!("{}/{kind}/{tensor}", case.name)).unwrap();
        tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let mut engine = engine(&case.config, &case.parameters, options, ops);
    for (step, reference) in case.losses.iter().enumerate() {
        let (loss, gradients) = accumulate(&mut engine, &batch());
        let what = format!("{}, {what}, step {step}", case.name);
        assert!((loss - reference).abs() < 1e-5 * reference, "{what}: {loss} {reference}");
        if step == 0 {
            for named in case.parameters.trained() {
                let distance = distance(&gradients[named.range()], &expected("gradient", &named.name));
                assert!(distance < 1e-5, "{what}: gradient of {}: {distance:e}", named.name);
            }
        }
        let adamw = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: step as u64 + 1,
            gradient_scale: 1.0,
            decayed: 0,
        };
        engine.update(adamw).unwrap();
    }
    let mut all = vec![0.0; case.parameters.len];
    engine.read(Buffer::Weights, &mut all).unwrap();
    for named in case.parameters.trained() {
        let distance = distance(&all[named.range()], &expected("after", &named.name));
        assert!(distance < 1e-4, "{}, {what}: {}: {distance:e}", case.name, named.name);
    }
    let base = case.parameters.trainable..;
    assert_eq!(all[base.clone()], weights(&case.parameters)[base], "the base model stays as it is");
}

#[test]
fn pytorch_agrees_on_adapters() {
    let again = EngineOptions { activation_checkpointing: true, ..EngineOptions::default() };
    for case in &cases() {
        follow(case, "CPU", EngineOptions::default(), cpu(&case.config, &case.parameters, 2));
        follow(case, "CPU, checkpointing", again, cpu(&case.config, &case.parameters, 2));
        follow(case, "candle", EngineOptions::default(), candle(&case.config, &case.parameters));
    }
}

#[test]
fn gradients_of_adapters_are_those_of_finite_differences() {
    for case in &cases() {
        let mut engine = engine(
            &case.config,
            &case.parameters,
            EngineOptions::default(),
            cpu(&case.config, &case.parameters, 1),
        );
        let (_, gradients) = accumulate(&mut engine, &batch());
        let start = weights(&case.parameters);
        for named in case.parameters.trained() {
            // Along the gradient of one tensor, where the slope is its norm.
            let norm = gradients[named.range()].iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let mut loss_at = |step: f64| {
                let mut moved = start.clone();
                for (weight, &gradient) in moved[named.range()].iter_mut().zip(&gradients[named.range()]) {
                    *weight += (step * f64::from(gradient) / norm) as f32;
                }
                engine.write(Buffer::Weights, &moved).unwrap();
                engine.evaluate(&batch()).unwrap() / (batch().sequences * batch().context) as f64
            };
            let step = 0.005;
            let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            assert!((slope - norm).abs() < 0.01 * norm + 1e-4, "{}: {slope} {norm}", named.name);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = &cases()[0];
    let found = [1, 2, 3].map(|threads| {
        let ops = cpu(&case.config, &case.parameters, threads);
        accumulate(&mut engine(&case.config, &case.parameters, EngineOptions::default(), ops), &batch())
    });
    assert!(found[0] == found[1] && found[0] == found[2]);
}

#[test]
fn a_merged_model_answers_as_the_adapted_one() {
    let ids: Vec<u32> = batch().ids[..20].to_vec();
    for case in &cases() {
        let ops = cpu(&case.config, &case.parameters, 2);
        let adapted =
            engine(&case.config, &case.parameters, EngineOptions::default(), ops).logits(&ids).unwrap();
        let plain = Parameters::new(&case.config);
        let merged = merge(&case.parameters, &weights(&case.parameters), &plain);
        let mut engine = Engine::new(&case.config, EngineOptions::default(), cpu(&case.config, &plain, 2));
        engine.write(Buffer::Weights, &merged).unwrap();
        let found = engine.logits(&ids).unwrap();
        let worst = found.iter().zip(&adapted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{}: {worst:e}", case.name);
        engine.write(Buffer::Weights, &weights(&plain)).unwrap();
        let base = engine.logits(&ids).unwrap();
        assert!(base.iter().zip(&adapted).any(|(a, b)| (a - b).abs() > 0.01), "the adapter does something");
    }
}

#[test]
fn frozen_parts_change_no_other_gradient() {
    let config = cases()[1].config;
    let all = Parameters::new(&config);
    for entries in [
        &["embedding"][..],
        &["layers.0", "embedding"],
        &["norms"],
        &["embedding", "layers.0-1"],
        &["head", "model.layers.*.mlp.*"],
        &["embedding", "*.mlp.*", "*.self_attn.*_proj.weight"],
    ] {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        let parameters = Parameters::with(&config, &entries, None).unwrap();
        let options = EngineOptions::default();
        let candle_pair = (
            accumulate(&mut engine(&config, &all, options, candle(&config, &all)), &batch()),
            accumulate(&mut engine(&config, &parameters, options, candle(&config, &parameters)), &batch()),
        );
        let cpu_pair = (
            accumulate(&mut engine(&config, &all, options, cpu(&config, &all, 2)), &batch()),
            accumulate(&mut engine(&config, &parameters, options, cpu(&config, &parameters, 2)), &batch()),
        );
        for ((loss, whole), (frozen_loss, found)) in [candle_pair, cpu_pair] {
            assert_eq!(loss, frozen_loss);
            for named in parameters.trained() {
                let of_all = all.find(&named.name).unwrap();
                assert!(found[named.range()] == whole[of_all.range()], "{entries:?}: {}", named.name);
            }
        }
    }
}

/// What PEFT wrote is read, and what this crate writes is read back; an adapter of something else is refused.
#[test]
fn peft_folders_are_read_and_written() {
    let case = &cases()[0];
    let expected = weights(&case.parameters);
    let shape = peft::read_shape(&golden("peft")).unwrap();
    assert_eq!((shape.rank, shape.alpha(), shape.matrices()), (4, 6.0, case.keys.matrices()));
    let read = |folder: &Path, parameters: &Parameters, hash: Option<&str>| {
        let mut found = vec![0.0; parameters.len];
        peft::read_weights(folder, &case.keys, parameters, (&mut found, hash)).map(|()| found)
    };
    let found = read(&golden("peft"), &case.parameters, Some("of any model")).unwrap();
    let trained = ..case.parameters.trainable;
    assert!(found[trained] == expected[trained]);

    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("adapter");
    let hash = frozen_hash(&case.parameters, &expected).unwrap();
    let adapter = PeftAdapter {
        shape: &case.keys,
        parameters: &case.parameters,
        weights: &expected,
        base: Some("small"),
        base_hash: Some(&hash),
        base_fingerprint: None,
    };
    peft::write(&adapter, &folder).unwrap();
    assert!(read(&folder, &case.parameters, Some(&hash)).unwrap()[trained] == expected[trained]);
    let [ours, theirs] = [&folder, &golden("peft")].map(|folder| {
        let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
            .collect();
        tensors.sort();
        tensors
    });
    assert!(ours == theirs, "the same file as PEFT's");

    let refused = |result: thimble_trainer::error::Result<Vec<f32>>, expected: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(read(&folder, &case.parameters, Some("0123456789abcdef")), "other frozen weights");
    let wider = Config { ffn: case.config.ffn + 4, ..case.config };
    let of_wider = Parameters::with(&wider, &[], Some(&case.keys)).unwrap();
    refused(read(&folder, &of_wider, None), "expected [20, 4]");
    let deeper = Config { layers: case.config.layers + 1, ..case.config };
    let of_deeper = Parameters::with(&deeper, &[], Some(&case.keys)).unwrap();
    refused(read(&folder, &of_deeper, None), "belongs to another model");
    let other = AdapterKeys { rank: 2, ..case.keys.clone() };
    let of_other = Parameters::with(&case.config, &[], Some(&other)).unwrap();
    let mut found = vec![0.0; of_other.len];
    let error = peft::read_weights(&folder, &other, &of_other, (&mut found, None)).unwrap_err().to_string();
    assert!(error.contains("rank 2") && error.contains("rank 4"), "{error}");
    for (key, value, expected) in [
        ("use_dora", Value::Bool(true), "use_dora to be off"),
        ("modules_to_save", serde_json::json!(["lm_head"]), "modules_to_save to be off"),
        ("peft_type", Value::from("IA3"), "expected peft_type"),
        ("r", Value::from(0), "at least 1, found 0"),
        ("lora_alpha", Value::Null, "positive lora_alpha"),
        ("target_modules", serde_json::json!(["c_attn"]), "q_proj"),
    ] {
        let changed = home.path().join(key);
        std::fs::create_dir(&changed).unwrap();
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(changed.join("adapter_config.json"), config.to_string()).unwrap();
        let error = peft::read_shape(&changed).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("adapter_config.json"), "{error}");
    }
}

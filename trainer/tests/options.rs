//! Every option of a model against PyTorch, the CPU's operations against candle's, and the arrangements of a pass
//! against each other.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use safetensors::SafeTensors;
use std::path::Path;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, LayerPattern, RopeParameters, RopeScaling};
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::export::{Export, read_config, read_model};
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::candle::{Blocks, CandleOps};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{Buffer, Ops};
use thimble_trainer::recipe::Precision;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train");

fn rope(theta: f32, scaling: RopeScaling) -> RopeParameters {
    RopeParameters { theta, scaling }
}

/// The cases of `tests/golden/train/families.py`.
fn families() -> Vec<(&'static str, Config)> {
    let small = Config {
        hidden: 12,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        ffn: 16,
        vocab: 24,
        context: 64,
        ..Config::PLAIN
    };
    let yarn = rope(
        100.0,
        RopeScaling::Yarn {
            factor: 4.0,
            original_context: 512,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 0.1 * 4f32.ln() + 1.0,
            truncate: true,
        },
    );
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 32,
    };
    let pattern = |layers, option: &dyn Fn(usize) -> (bool, bool)| LayerPattern::new(layers, option).unwrap();
    vec![
        ("llama3", Config { rope: rope(100.0, llama3), ..small }),
        ("linear", Config { tied: false, rope: rope(1e4, RopeScaling::Linear { factor: 4.0 }), ..small }),
        ("yarn", Config { rope: yarn, context: 2048, ..small }),
        ("qwen2", Config { qkv_bias: true, head_dim: 6, ..small }),
        ("qwen3", Config { qk_norm: true, rope: RopeParameters::new(1e6), ..small }),
        (
            "smollm3",
            Config {
                layers: 4,
                head_dim: 6,
                pattern: pattern(4, &|layer| ((layer + 1) % 4 != 0, false)),
                ..small
            },
        ),
        ("mistral", Config { tied: false, window: 5, pattern: pattern(2, &|_| (true, true)), ..small }),
        (
            "mixed",
            Config {
                tied: false,
                qk_norm: true,
                rope: yarn,
                context: 2048,
                window: 7,
                pattern: pattern(2, &|layer| (true, layer == 1)),
                ..small
            },
        ),
    ]
}

/// All options at once, several query heads a key head, nothing a multiple of a block.
fn everything() -> Config {
    Config {
        hidden: 24,
        layers: 4,
        heads: 6,
        kv_heads: 2,
        head_dim: 6,
        ffn: 40,
        vocab: 53,
        context: 1024,
        qkv_bias: true,
        qk_norm: true,
        window: 130,
        pattern: LayerPattern::new(4, |layer| (layer != 1, (1..3).contains(&layer))).unwrap(),
        ..families()[2].1
    }
}

/// The weights of `families.py`.
fn weights(config: &Config) -> Vec<f32> {
    let parameters = Parameters::new(config);
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

/// Loss and gradients of a batch.
fn accumulate<O: Ops>(
    config: &Config,
    options: EngineOptions,
    ops: O,
    batch: &TrainingBatch,
) -> (f64, Vec<f32>) {
    let mut engine = Engine::new(config, options, ops);
    engine.write(Buffer::Weights, &weights(config)).unwrap();
    engine.zero_gradients().unwrap();
    let scale = 1.0 / (batch.sequences * batch.context) as f64;
    engine.accumulate(&batch.clone().weighed(scale as f32)).unwrap();
    // An evaluation in between leaves the loss to be taken.
    let evaluated = engine.evaluate(batch).unwrap() * scale;
    let loss = engine.take_loss().unwrap() * scale;
    assert_eq!(engine.take_loss().unwrap(), 0.0);
    assert!((loss - evaluated).abs() < 1e-6 * loss, "{loss} {evaluated}");
    let mut gradients = vec![0.0; engine.parameters().len];
    engine.read(Buffer::Gradients, &mut gradients).unwrap();
    (loss, gradients)
}

fn cpu(config: &Config, threads: usize) -> CpuOps {
    CpuOps::new(threads, Parameters::new(config).len, config.norm_eps).unwrap()
}

fn candle(config: &Config) -> CandleOps {
    let ops =
        CandleOps::new(Device::Cpu, Precision::F32, Parameters::new(config).len, config.norm_eps).unwrap();
    ops.with_blocks(Blocks { queries: 7, scores: 400, loss_tokens: 10 })
}

/// Norm of the difference over the norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(&mut found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    (difference / square(&mut expected.iter().map(|&b| f64::from(b)))).sqrt()
}

/// Requires every tensor's gradient to be within `bound` of the expected one; returns the worst distance.
fn compare(
    config: &Config,
    found: &[f32],
    bound: f64,
    expected: impl Fn(&str, std::ops::Range<usize>) -> Vec<f32>,
) -> f64 {
    let parameters = Parameters::new(config);
    parameters.named().iter().fold(0.0, |worst, named| {
        let distance = distance(&found[named.range()], &expected(&named.name, named.range()));
        assert!(distance < bound, "{}: {distance:e}", named.name);
        worst.max(distance)
    })
}

#[test]
fn pytorch_agrees_on_every_family() {
    let folder = Path::new(GOLDEN);
    let text = std::fs::read(folder.join("families.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let bytes = std::fs::read(folder.join("families.safetensors")).unwrap();
    let gradients = SafeTensors::deserialize(&bytes).unwrap();
    let rows: Vec<Vec<u32>> = serde_json::from_value(golden["batch"].clone()).unwrap();
    let context = rows[0].len() - 1;
    let batch = TrainingBatch::new(rows.len(), context, rows.concat(), vec![0; rows.len() * context]);
    let mut tensors = 0;
    for (name, config) in families() {
        config.check().unwrap();
        let expected = |tensor: &str, _| -> Vec<f32> {
            let tensor = gradients.tensor(&format!("{name}/{tensor}")).unwrap();
            tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let options = EngineOptions::default();
        let again = EngineOptions { activation_checkpointing: true, ..options };
        for (what, (loss, found)) in [
            ("CPU", accumulate(&config, options, cpu(&config, 2), &batch)),
            ("CPU, checkpointing", accumulate(&config, again, cpu(&config, 2), &batch)),
            ("candle", accumulate(&config, options, candle(&config), &batch)),
        ] {
            let reference = golden["cases"][name]["loss"].as_f64().unwrap();
            assert!((loss - reference).abs() < 1e-6 * reference, "{name}, {what}: {loss} {reference}");
            let worst = compare(&config, &found, 1e-5, expected);
            println!("{name}, {what}: worst gradient {worst:.1e}");
        }
        tensors += Parameters::new(&config).named().len();
    }
    assert_eq!(gradients.len(), tensors);
}

/// transformers' config.json of each case, and what the trainer makes of it and writes.
#[test]
fn folders_of_every_family_are_read_and_written() {
    let text = std::fs::read(Path::new(GOLDEN).join("families.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let tokenizer = temporary.path().join("tokenizer");
    std::fs::create_dir(&tokenizer).unwrap();
    std::fs::write(tokenizer.join("tokenizer.json"), "{}").unwrap();
    for (name, config) in families() {
        let given = &golden["cases"][name]["config"];
        let path = temporary.path().join("config.json");
        std::fs::write(&path, given.to_string()).unwrap();
        let mut expected = Config { bos: Some(Token(0)), ..config };
        expected.stop[0] = Some(Token(0));
        assert_eq!(read_config(&path).unwrap(), expected, "{name}");

        let weights = weights(&config);
        let export = Export {
            config: &config,
            init_std: 0.02,
            weights: &weights,
            tokenizer: &tokenizer,
            end_of_document: 0,
            precision: Precision::F32,
        };
        let folder = temporary.path().join(name);
        thimble_trainer::export::export(&export, &folder).unwrap();
        assert!(read_model(&folder).unwrap() == (expected, weights), "{name}");
        let written = std::fs::read(folder.join("config.json")).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
        for key in ["architectures", "model_type", "initializer_range"] {
            assert_eq!(written[key], given[key], "{name}");
        }
    }
    let config = everything();
    let export = Export {
        config: &config,
        init_std: 0.02,
        weights: &weights(&config),
        tokenizer: &tokenizer,
        end_of_document: 0,
        precision: Precision::F32,
    };
    let folder = temporary.path().join("everything");
    let error = thimble_trainer::export::export(&export, &folder).unwrap_err().to_string();
    assert!(error.contains("biases of query, key and value, norms of query and key"), "{error}");
    assert!(!folder.exists());
}

/// Windows with documents that begin at `starts`.
fn batch(sequences: usize, context: usize, starts: &[usize]) -> TrainingBatch {
    let start =
        |position| starts.iter().rev().find(|start| **start <= position).map_or(0, |start| *start as u32);
    let document_start: Vec<u32> = (0..context).map(start).collect();
    let ids = (0..sequences * (context + 1)).map(|i| ((i * 7919 + i * i % 911) % 53) as u32).collect();
    TrainingBatch::new(sequences, context, ids, document_start.repeat(sequences))
}

/// Windows and documents that begin on all sides of the blocks that attention works in.
#[test]
fn candle_agrees_on_long_windows() {
    let config = everything();
    let batch = batch(2, 300, &[3, 120, 128, 129, 170]);
    for document_mask in [false, true] {
        let options = EngineOptions { document_mask, ..EngineOptions::default() };
        let (loss, found) = accumulate(&config, options, cpu(&config, 2), &batch);
        let (expected_loss, expected) = accumulate(&config, options, candle(&config), &batch);
        assert!((loss - expected_loss).abs() < 1e-6 * loss, "{loss} {expected_loss}");
        compare(&config, &found, 1e-4, |_, range| expected[range].to_vec());
    }
}

#[test]
fn threads_and_activation_checkpointing_change_no_bit() {
    let config = everything();
    let batch = batch(2, 300, &[130, 270]);
    let options = EngineOptions { document_mask: true, ..EngineOptions::default() };
    let expected = accumulate(&config, options, cpu(&config, 1), &batch);
    assert!(accumulate(&config, options, cpu(&config, 3), &batch) == expected);
    let options = EngineOptions { activation_checkpointing: true, ..options };
    assert!(accumulate(&config, options, cpu(&config, 2), &batch) == expected);
}

/// A window as long as the context hides nothing; a shorter one does.
#[test]
fn a_window_hides_what_lies_before_it() {
    let batch = batch(1, 40, &[]);
    let loss = |window| {
        let config = Config { window, ..everything() };
        let mut engine = Engine::new(&config, EngineOptions::default(), cpu(&config, 1));
        engine.write(Buffer::Weights, &weights(&config)).unwrap();
        engine.token_losses(&batch).unwrap()
    };
    let whole = loss(1000);
    assert_eq!(loss(40), whole);
    let short = loss(8);
    assert_eq!(short[..8], whole[..8]);
    assert!(short[8..].iter().zip(&whole[8..]).all(|(a, b)| a != b));
}

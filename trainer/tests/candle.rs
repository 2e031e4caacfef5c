//! The operations through candle's tensors, on candle's CPU: against PyTorch's values, the CPU's operations and
//! candle's autograd.

#![allow(clippy::unwrap_used)] // helpers of tests

use candle_core::{D, DType, Device, Result as Computed, Tensor, Var};
use std::path::Path;
use thimble_runtime::format::Config;
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::model::Passes;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::candle::{Blocks, CandleOps};
use thimble_trainer::ops::cpu::CpuOps;
use thimble_trainer::ops::{AdamW, Buffer, Ops};
use thimble_trainer::parity::parity;
use thimble_trainer::recipe::Precision;

/// Vigna's SplitMix64.
struct SplitMix(u64);

impl SplitMix {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Three query heads a key head, heads together wider than the residual stream, nothing a multiple of a block.
fn shape(tied: bool) -> Config {
    Config {
        hidden: 24,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 6,
        ffn: 40,
        vocab: 53,
        context: 64,
        tied,
        ..Config::PLAIN
    }
}

const BLOCKS: Blocks = Blocks { queries: 7, scores: 2 * 6 * 7 * 19, loss_tokens: 10 };

/// Documents of a few tokens, the first begun before the window.
fn batch(random: &mut SplitMix, sequences: usize, context: usize, vocab: usize) -> TrainingBatch {
    let mut below = |n: usize| (random.uniform() * n as f64) as u32;
    let ids = (0..sequences * (context + 1)).map(|_| below(vocab)).collect();
    let mut document_start = Vec::new();
    for _ in 0..sequences {
        let mut start = 0;
        for position in 0..context as u32 {
            if below(5) == 0 {
                start = position;
            }
            document_start.push(start);
        }
    }
    TrainingBatch::new(sequences, context, ids, document_start).weighed(0.01)
}

fn weights(random: &mut SplitMix, shape: &Config) -> Vec<f32> {
    let parameters = Parameters::new(shape);
    let mut uniform = || random.uniform() as f32 - 0.5;
    let mut weights: Vec<f32> = (0..parameters.len).map(|_| 0.6 * uniform()).collect();
    weights[parameters.matrices..].iter_mut().for_each(|norm| *norm += 1.0);
    weights
}

/// Losses and the accumulated gradient of two batches of different sizes.
struct Found {
    losses: Vec<f64>,
    token_losses: Vec<f32>,
    gradients: Vec<f32>,
    norm: f64,
}

fn accumulate(mut engine: Engine<impl Ops>, weights: &[f32], batches: &[TrainingBatch]) -> Found {
    engine.write(Buffer::Weights, weights).unwrap();
    engine.zero_gradients().unwrap();
    let mut losses = Vec::new();
    for batch in batches {
        losses.push(engine.evaluate(batch).unwrap());
        engine.accumulate(batch).unwrap();
        losses.push(engine.take_loss().unwrap());
    }
    let mut gradients = vec![0.0; weights.len()];
    engine.read(Buffer::Gradients, &mut gradients).unwrap();
    let token_losses = engine.token_losses(&batches[0]).unwrap();
    Found { losses, token_losses, gradients, norm: engine.gradient_norm().unwrap() }
}

fn candle(shape: &Config, precision: Precision) -> CandleOps {
    let len = Parameters::new(shape).len;
    CandleOps::new(Device::Cpu, precision, len, shape.norm_eps).unwrap().with_blocks(BLOCKS)
}

fn cpu(shape: &Config) -> CpuOps {
    CpuOps::new(2, Parameters::new(shape).len, shape.norm_eps).unwrap()
}

fn square(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum()
}

/// Norm of the difference over the norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let difference = found.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b));
    (square(difference) / square(expected.iter().map(|&b| f64::from(b)))).sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let norm = |x: &[f32]| square(x.iter().map(|&x| f64::from(x))).sqrt();
    dot / (norm(a) * norm(b))
}

/// All switches off and on, tied and not.
fn cases() -> Vec<(Config, EngineOptions)> {
    let with = |tied, document_mask, activation_checkpointing, z_loss| {
        (
            shape(tied),
            EngineOptions { document_mask, activation_checkpointing, z_loss, ..EngineOptions::default() },
        )
    };
    vec![
        with(true, false, false, None),
        with(false, true, false, Some(0.1)),
        with(true, true, true, Some(0.1)),
        with(false, false, true, None),
    ]
}

#[test]
fn pytorch_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train");
    let found = parity(&folder, |shape, parameters| {
        let ops = CandleOps::new(Device::Cpu, Precision::F32, parameters, shape.norm_eps)?;
        Ok(ops.with_blocks(Blocks { queries: 5, scores: 64, loss_tokens: 9 }))
    })
    .unwrap();
    println!("{found:?}");
    assert!(found.holds(), "{found:?}");
}

#[test]
fn the_cpus_operations_agree() {
    for (shape, options) in cases() {
        let mut random = SplitMix(3);
        let weights = weights(&mut random, &shape);
        let batches = [batch(&mut random, 3, 19, shape.vocab), batch(&mut random, 1, 11, shape.vocab)];
        let expected = accumulate(Engine::new(&shape, options, cpu(&shape)), &weights, &batches);
        let found =
            accumulate(Engine::new(&shape, options, candle(&shape, Precision::F32)), &weights, &batches);
        for (a, b) in found.losses.iter().zip(&expected.losses) {
            assert!((a - b).abs() < 1e-6 * b, "{a} {b} {options:?}");
        }
        assert!(distance(&found.token_losses, &expected.token_losses) < 1e-6);
        assert!((found.norm - expected.norm).abs() < 1e-5 * expected.norm);
        let mut worst = (0.0, "");
        let parameters = Parameters::new(&shape);
        for named in parameters.named() {
            let distance = distance(&found.gradients[named.range()], &expected.gradients[named.range()]);
            assert!(distance < 1e-4, "{}: {distance} {options:?}", named.name);
            worst = if distance > worst.0 { (distance, &named.name[..]) } else { worst };
        }
        println!("{options:?}: worst gradient {worst:?}");
    }
}

/// bfloat16 has 8 bits: the loss within 2%, and gradients that point the same way.
#[test]
fn bf16_is_close() {
    for (shape, options) in cases() {
        let mut random = SplitMix(4);
        let weights = weights(&mut random, &shape);
        let batches = [batch(&mut random, 3, 19, shape.vocab), batch(&mut random, 2, 11, shape.vocab)];
        let expected = accumulate(Engine::new(&shape, options, cpu(&shape)), &weights, &batches);
        let found =
            accumulate(Engine::new(&shape, options, candle(&shape, Precision::Bf16)), &weights, &batches);
        let mut worst_loss = 0.0f64;
        for (a, b) in found.losses.iter().zip(&expected.losses) {
            worst_loss = worst_loss.max((a - b).abs() / b);
        }
        let parameters = Parameters::new(&shape);
        let worst = parameters.named().iter().map(|named| {
            (cosine(&found.gradients[named.range()], &expected.gradients[named.range()]), &named.name)
        });
        let worst = worst.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!("{options:?}: loss within {worst_loss:.2e}, worst cosine {worst:?}");
        assert!(worst_loss < 0.02, "{worst_loss} {options:?}");
        assert!(worst.0 > 0.99, "{worst:?} {options:?}");
        assert_ne!(found.gradients, expected.gradients, "bf16 was not used");
    }
}

fn steps(engine: &mut Engine<CandleOps>, batches: &[TrainingBatch], first: u64) {
    for (batch, step) in batches.iter().zip(first..) {
        engine.zero_gradients().unwrap();
        engine.accumulate(&batch.clone().weighed(0.02)).unwrap();
        let norm = engine.gradient_norm().unwrap();
        let adamw = AdamW {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: AdamW::clip(norm, Some(0.5)),
            decayed: 0,
        };
        engine.update(adamw).unwrap();
    }
}

fn state(engine: &Engine<CandleOps>) -> [Vec<f32>; 3] {
    [Buffer::Weights, Buffer::FirstMoment, Buffer::SecondMoment].map(|buffer| {
        let mut values = vec![0.0; engine.parameters().len];
        engine.read(buffer, &mut values).unwrap();
        values
    })
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let shape = shape(true);
    let mut random = SplitMix(5);
    let weights = weights(&mut random, &shape);
    let batches: Vec<TrainingBatch> = (0..4).map(|_| batch(&mut random, 2, 19, shape.vocab)).collect();
    let options = EngineOptions { document_mask: true, ..EngineOptions::default() };
    for precision in [Precision::F32, Precision::Bf16] {
        let engine = || Engine::new(&shape, options, candle(&shape, precision));
        let mut whole = engine();
        whole.write(Buffer::Weights, &weights).unwrap();
        steps(&mut whole, &batches, 1);

        let mut before = engine();
        before.write(Buffer::Weights, &weights).unwrap();
        steps(&mut before, &batches[..2], 1);
        let [weights, first, second] = state(&before);
        let mut after = engine();
        // A larger arena, and what a validation between steps leaves, must not matter.
        after.reserve(3, 33, Passes::Both).unwrap();
        after.write(Buffer::Weights, &weights).unwrap();
        after.write(Buffer::FirstMoment, &first).unwrap();
        after.write(Buffer::SecondMoment, &second).unwrap();
        after.evaluate(&batches[0]).unwrap();
        steps(&mut after, &batches[2..], 3);
        assert_eq!(state(&after), state(&whole), "{precision:?}");
        assert_ne!(state(&after)[0], weights);
    }
}

#[test]
fn logits_of_one_token_are_given() {
    let shape = shape(false);
    let weights = weights(&mut SplitMix(6), &shape);
    let mut candle = Engine::new(&shape, EngineOptions::default(), candle(&shape, Precision::F32));
    let mut cpu = Engine::new(&shape, EngineOptions::default(), cpu(&shape));
    candle.write(Buffer::Weights, &weights).unwrap();
    cpu.write(Buffer::Weights, &weights).unwrap();
    for ids in [&[7][..], &[7, 52, 0]] {
        assert!(distance(&candle.logits(ids).unwrap(), &cpu.logits(ids).unwrap()) < 1e-5);
    }
}

#[test]
fn too_many_values_are_refused() {
    let mut candle = CandleOps::new(Device::Cpu, Precision::F32, 10, 1e-5).unwrap();
    let error = candle.write(Buffer::Weights, &[0.0; 11]).unwrap_err();
    assert_eq!(error.to_string(), "11 values for a buffer of 10");
}

/// A Llama written with candle's differentiable operations, whole attention and whole logits.
struct Autograd<'a> {
    shape: &'a Config,
    options: EngineOptions,
    variables: Vec<(String, Var)>,
}

impl Autograd<'_> {
    fn weight(&self, name: &str) -> &Tensor {
        self.variables.iter().find(|(found, _)| found == name).unwrap().1.as_tensor()
    }

    fn linear(&self, x: &Tensor, name: &str) -> Computed<Tensor> {
        x.matmul(&self.weight(name).t()?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Computed<Tensor> {
        let rms = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.shape.norm_eps))?.sqrt()?;
        x.broadcast_div(&rms)?.broadcast_mul(self.weight(name))
    }

    /// `heads x context x head_dim`, turned.
    fn heads(&self, x: &Tensor, count: usize, turned: bool) -> Computed<Tensor> {
        let (context, dim) = (x.dim(0)?, self.shape.head_dim);
        let x = x.reshape((context, count, dim))?.transpose(0, 1)?;
        if !turned {
            return x.contiguous();
        }
        let exponents: Vec<f32> = (0..dim / 2).map(|i| -(2.0 * i as f32) / dim as f32).collect();
        let frequencies = exponents.iter().map(|&e| self.shape.rope.theta.powf(e)).collect::<Vec<_>>();
        let positions = Tensor::arange(0f32, context as f32, &Device::Cpu)?.reshape((context, 1))?;
        let angles = positions.matmul(&Tensor::from_vec(frequencies, (1, dim / 2), &Device::Cpu)?)?;
        let angles = Tensor::cat(&[&angles, &angles], 1)?;
        let other = Tensor::cat(&[x.narrow(2, dim / 2, dim / 2)?.neg()?, x.narrow(2, 0, dim / 2)?], 2)?;
        x.broadcast_mul(&angles.cos()?)? + other.broadcast_mul(&angles.sin()?)?
    }

    fn attention(&self, x: &Tensor, layer: &str, starts: &[u32]) -> Computed<Tensor> {
        let (shape, context) = (self.shape, x.dim(0)?);
        let part = |name: &str| self.linear(x, &format!("{layer}.self_attn.{name}.weight"));
        let query = self.heads(&part("q_proj")?, shape.heads, true)?;
        let (key, value) = (
            self.heads(&part("k_proj")?, shape.kv_heads, true)?,
            self.heads(&part("v_proj")?, shape.kv_heads, false)?,
        );
        let group: Vec<u32> =
            (0..shape.heads).map(|head| (head * shape.kv_heads / shape.heads) as u32).collect();
        let group = Tensor::new(group, &Device::Cpu)?;
        let (key, value) = (key.index_select(&group, 0)?, value.index_select(&group, 0)?);
        let hidden = (0..context * context).map(|at| {
            let (q, k) = (at / context, at % context);
            let first = if self.options.document_mask { starts[q] as usize } else { 0 };
            if (first..=q).contains(&k) { 0.0f32 } else { f32::NEG_INFINITY }
        });
        let hidden = Tensor::from_vec(hidden.collect::<Vec<_>>(), (context, context), &Device::Cpu)?;
        let scores = (query.matmul(&key.transpose(1, 2)?)? / (shape.head_dim as f64).sqrt())?;
        let weights = scores.broadcast_add(&hidden)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(2)?)?;
        let width = shape.heads * shape.head_dim;
        let attended = weights.matmul(&value)?.transpose(0, 1)?.reshape((context, width))?;
        self.linear(&attended, &format!("{layer}.self_attn.o_proj.weight"))
    }

    /// What is differentiated, for one sequence.
    fn loss(&self, ids: &[u32], starts: &[u32]) -> Computed<Tensor> {
        let context = starts.len();
        let inputs = Tensor::new(&ids[..context], &Device::Cpu)?;
        let targets = Tensor::new(&ids[1..], &Device::Cpu)?.unsqueeze(1)?;
        let mut x = self.weight("model.embed_tokens.weight").index_select(&inputs, 0)?;
        for index in 0..self.shape.layers {
            let layer = format!("model.layers.{index}");
            let normed = self.norm(&x, &format!("{layer}.input_layernorm.weight"))?;
            x = (&x + self.attention(&normed, &layer, starts)?)?;
            let normed = self.norm(&x, &format!("{layer}.post_attention_layernorm.weight"))?;
            let part = |x: &Tensor, name: &str| self.linear(x, &format!("{layer}.mlp.{name}.weight"));
            let product = (part(&normed, "gate_proj")?.silu()? * part(&normed, "up_proj")?)?;
            x = (&x + part(&product, "down_proj")?)?;
        }
        let head = if self.shape.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let logits = self.linear(&self.norm(&x, "model.norm.weight")?, head)?;
        let log_partition = logits.exp()?.sum_keepdim(1)?.log()?;
        let likelihood = (&log_partition - logits.gather(&targets, 1)?)?.sum_all()?;
        likelihood + (log_partition.sqr()?.sum_all()? * self.options.z_loss.unwrap_or(0.0))?
    }
}

#[test]
fn candles_autograd_agrees() {
    for (shape, options) in cases() {
        let mut random = SplitMix(8);
        let weights = weights(&mut random, &shape);
        let batch = batch(&mut random, 2, 19, shape.vocab);
        let found = accumulate(
            Engine::new(&shape, options, candle(&shape, Precision::F32)),
            &weights,
            std::slice::from_ref(&batch),
        );
        let parameters = Parameters::new(&shape);
        let variable = |named: &thimble_trainer::model::parameters::NamedTensor| {
            let values = Tensor::from_slice(&weights[named.range()], &named.shape[..], &Device::Cpu);
            (named.name.clone(), Var::from_tensor(&values.unwrap()).unwrap())
        };
        let model =
            Autograd { shape: &shape, options, variables: parameters.named().iter().map(variable).collect() };
        let rows = batch.ids.chunks(batch.context + 1).zip(batch.document_start.chunks(batch.context));
        let losses: Vec<Tensor> = rows.map(|(ids, starts)| model.loss(ids, starts).unwrap()).collect();
        let gradients =
            (Tensor::stack(&losses, 0).unwrap().sum_all().unwrap() * 0.01).unwrap().backward().unwrap();
        for (named, (_, variable)) in parameters.named().iter().zip(&model.variables) {
            let expected =
                gradients.get(variable).unwrap_or_else(|| panic!("{} has no gradient", named.name));
            let expected: Vec<f32> =
                expected.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
            let distance = distance(&found.gradients[named.range()], &expected);
            assert!(distance < 1e-4, "{}: {distance} {options:?}", named.name);
        }
    }
}

//! Measures the engine's own kernels on a GPU at a recipe's sizes, beside their prediction.
//!
//! A few optimizer steps are timed whole. Then one micro-batch and one update are recorded, and the calls of each kernel
//! are made again by themselves, those of all layers one after the other: so each kernel is timed without events between
//! launches, and over as much memory as in a step.

mod recorder;
mod report;

pub use report::{BenchReport, MeasuredKernel, MeasuredSteps};

use crate::data::TrainingBatch;
use crate::error::Result;
use crate::model::{Engine, EngineOptions, Parameters, Passes, init};
use crate::ops::cuda::CudaOps;
use crate::ops::cuda::launcher::{DeviceMemory, Launcher};
use crate::ops::{AdamW, Buffer};
use crate::plan::{DeviceTarget, Flops, MemoryEstimate};
use crate::prediction::{DOCUMENT_TOKENS, GpuModel, Prediction, unpredictable};
use crate::random::SplitMix;
use crate::recipe::{Stage, TrainingRecipe};
use recorder::{Call, Recorder};
use std::collections::BTreeMap;
use std::time::Instant;
use thimble_runtime::format::Config;

/// A kernel's calls are repeated until they have taken so long, but so often at most.
const REPEAT_SECONDS: f64 = 0.2;
const MOST_REPEATS: usize = 10;
const LEARNING_RATE: f64 = 3e-4;
/// Kernels that run once a step and not once a micro-batch.
const OF_A_STEP: [&str; 4] = ["adamw", "square_sum", "square_sum_total", "zero gradients"];

/// Measures `steps` optimizer steps of a stage on random tokens, then every kernel of a micro-batch. A rehearsal counts
/// launches and takes no times: in the emulator they mean nothing.
///
/// # Errors
/// The device fails.
pub fn bench<L: Launcher>(
    recipe: &TrainingRecipe,
    stage: &Stage,
    launcher: L,
    (steps, rehearsal): (usize, bool),
) -> Result<BenchReport> {
    let config = recipe.model.config();
    let recorder = Recorder::new(launcher);
    let device = recorder.device();
    let parameters = Parameters::of(recipe)?;
    let ops = CudaOps::new(recorder.clone(), parameters.lengths(), config.norm_eps)?;
    let mut engine = Engine::with(&config, parameters, EngineOptions::of(recipe), ops);
    let weights = init::weights(engine.parameters(), recipe.model.init_std, recipe.seed);
    engine.write(Buffer::Weights, &weights)?;
    engine.reserve(stage.micro_batch, stage.context, Passes::Both)?;
    let batch = random_batch(&config, stage);

    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 1..=steps as u64 {
        let start = Instant::now();
        losses.push(train(&mut engine, &batch, stage.accumulate, step)?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    recorder.start();
    engine.zero_gradients()?;
    engine.accumulate(&batch)?;
    engine.gradient_norm()?;
    engine.update(adamw(&engine, steps as u64 + 1))?;
    let calls = recorder.stop();

    let mut kernels = BTreeMap::<&str, Vec<&Call>>::new();
    let gradients = engine.parameters().trainable * size_of::<f32>();
    for call in &calls {
        kernels.entry(call.name(config.vocab, gradients)).or_default().push(call);
    }
    let gpu = if rehearsal { Some(GpuModel::L40s) } else { GpuModel::of_device(&device) };
    let predicted = match gpu {
        Some(gpu) if unpredictable(recipe).is_none() => {
            let found = Prediction::of(recipe, stage, gpu, DOCUMENT_TOKENS)?;
            // The batch is of one document a sequence.
            Some(found.full)
        }
        _ => None,
    };
    let wait = recorder.allocate(size_of::<u32>())?;
    recorder.zero(wait.region())?;
    let mut rows = Vec::new();
    for (name, calls) in kernels {
        let seconds = if rehearsal { None } else { Some(time(&recorder, &wait, &calls)?) };
        // Its share of a step, as in the prediction.
        let share = if OF_A_STEP.contains(&name) { stage.accumulate as f64 } else { 1.0 };
        let prediction =
            predicted.as_ref().and_then(|pass| pass.kernels.iter().find(|found| found.name == name));
        let limit = prediction.zip(gpu).map(|(kernel, gpu)| kernel.limit_seconds(gpu.sheet()));
        rows.push(MeasuredKernel {
            name,
            launches: calls.len(),
            seconds: seconds.map(|seconds| seconds / share),
            predicted_seconds: prediction.map(|kernel| kernel.seconds),
            limit_seconds: limit,
        });
    }
    let length = |row: &MeasuredKernel| row.seconds.or(row.predicted_seconds).unwrap_or_default();
    rows.sort_by(|a, b| length(b).total_cmp(&length(a)));
    let memory = MemoryEstimate::of(recipe, DeviceTarget::Cuda, (stage.micro_batch, stage.context));
    let tokens = stage.tokens_per_step() as f64;
    let median = (!rehearsal && !seconds.is_empty()).then(|| median(&seconds));
    let peak = gpu.map(|gpu| gpu.sheet().tensor_flops);
    let flops = Flops::of(&config, stage.context).causal() as f64;
    let speed = median.map(|median| tokens / median);
    Ok(BenchReport {
        device,
        rehearsal,
        recipe: recipe.name.clone(),
        sequences: stage.micro_batch,
        context: stage.context,
        gpu,
        peak_tflops: peak.map(|peak| peak / 1e12),
        kernels: rows,
        predicted_tokens_per_second: predicted.map(|pass| pass.tokens_per_second),
        steps: MeasuredSteps {
            steps,
            tokens_per_second: speed,
            mfu: speed.zip(peak).map(|(speed, peak)| speed * flops / peak),
            median_seconds: median,
            losses: losses.iter().map(|loss| loss / tokens).collect(),
        },
        allocated_bytes: engine.into_ops().allocated_bytes() as u64,
        planned_bytes: memory.total,
    })
}

/// One optimizer step; the sum of its losses in nats.
fn train<L: Launcher>(
    engine: &mut Engine<CudaOps<L>>,
    batch: &TrainingBatch,
    accumulate: usize,
    step: u64,
) -> Result<f64> {
    engine.zero_gradients()?;
    for _ in 0..accumulate {
        engine.accumulate(batch)?;
    }
    let update = adamw(engine, step);
    let norm = engine.gradient_norm()?;
    engine.update(AdamW { gradient_scale: AdamW::clip(norm, Some(1.0)), ..update })?;
    engine.take_loss()
}

fn adamw<L: Launcher>(engine: &Engine<CudaOps<L>>, step: u64) -> AdamW {
    AdamW {
        learning_rate: LEARNING_RATE,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step,
        gradient_scale: 1.0,
        decayed: engine.parameters().matrices,
    }
}

/// Seconds of these calls, the median of some repetitions.
fn time<L: Launcher>(recorder: &Recorder<L>, wait: &L::Memory, calls: &[&Call]) -> Result<f64> {
    let mut seconds = Vec::new();
    let mut word = [0; size_of::<u32>()];
    // The first time warms up.
    for round in 0..=MOST_REPEATS {
        recorder.download(wait.region(), &mut word)?;
        let start = Instant::now();
        for call in calls {
            recorder.repeat(call)?;
        }
        recorder.download(wait.region(), &mut word)?;
        if round > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        if seconds.len() > 2 && seconds.iter().sum::<f64>() > REPEAT_SECONDS {
            break;
        }
    }
    Ok(median(&seconds))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Windows of random tokens, each of one document, with the weight that makes a step's gradient that of the mean.
fn random_batch(config: &Config, stage: &Stage) -> TrainingBatch {
    let (sequences, context) = (stage.micro_batch, stage.context);
    let mut random = SplitMix::new(0, 0);
    let ids = (0..sequences * (context + 1)).map(|_| (random.next() % config.vocab as u64) as u32).collect();
    let batch = TrainingBatch::new(sequences, context, ids, vec![0; sequences * context]);
    batch.weighed(1.0 / stage.tokens_per_step() as f32)
}

//! Measures a machine's speed on a recipe with a few seconds of real steps.

use super::counts::{DeviceTarget, Flops};
use super::memory::MemoryEstimate;
use crate::data::TrainingBatch;
use crate::error::Result;
use crate::model::{Engine, EngineOptions, Parameters, Passes, init};
use crate::ops::{AdamW, Buffer, BufferLengths, Ops};
use crate::random::SplitMix;
use crate::recipe::{Stage, TrainingRecipe};
use serde::Serialize;
use std::time::{Duration, Instant};
use thimble_runtime::format::Config;

/// How long passes are measured. Longer passes are not started.
const PASSES: Duration = Duration::from_secs(2);
/// How long optimizer steps are measured.
const STEPS: Duration = Duration::from_secs(1);
/// Tokens of the first pass.
const FIRST_CONTEXT: usize = 64;
/// A negligible learning rate.
const LEARNING_RATE: f64 = 1e-9;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasuredThroughput {
    /// Of forward and backward passes, attention by the causal half.
    pub flops_per_second: f64,
    /// Seconds of an optimizer step besides its passes.
    pub update_seconds: f64,
    /// Sequences of the largest pass: less than the recipe's micro-batch where that would have lasted too long.
    pub sequences: usize,
    /// Their tokens.
    pub context: usize,
    /// The device, for display.
    pub device: String,
}

impl MeasuredThroughput {
    /// Tokens per second in a stage, by its index.
    pub fn tokens_per_second(&self, recipe: &TrainingRecipe, index: usize) -> f64 {
        let stage = &recipe.stages[index];
        let tokens = recipe.objective.tokens_per_step(stage) as f64;
        let flops = tokens * Flops::of_stage(recipe, index, stage.context).causal() as f64;
        tokens / (flops / self.flops_per_second + self.update_seconds)
    }
}

/// Trains for a few seconds on random tokens in the shape of one of the recipe's stages, on the device that `device`
/// makes. None where the smallest pass does not fit into `memory` bytes.
///
/// # Errors
/// The device fails.
pub fn measure<O: Ops>(
    recipe: &TrainingRecipe,
    stage: &Stage,
    (target, memory): (DeviceTarget, Option<u64>),
    device: impl FnOnce(&Config, BufferLengths) -> Result<O>,
) -> Result<Option<MeasuredThroughput>> {
    let fits = |size: (usize, usize)| {
        memory.is_none_or(|memory| MemoryEstimate::of(recipe, target, size).total <= memory)
    };
    let mut size = (1, stage.context.min(FIRST_CONTEXT));
    if !fits(size) {
        return Ok(None);
    }
    let config = recipe.model.config();
    let parameters = Parameters::of(recipe)?;
    let ops = device(&config, parameters.lengths())?;
    let mut engine = Engine::with(&config, parameters, EngineOptions::of(recipe), ops);
    let weights = init::weights(engine.parameters(), recipe.model.init_std, recipe.seed);
    engine.write(Buffer::Weights, &weights)?;
    let zeros = vec![0.0; engine.parameters().trainable];
    drop(weights);
    engine.write(Buffer::FirstMoment, &zeros)?;
    engine.write(Buffer::SecondMoment, &zeros)?;
    drop(zeros);

    let flops = |(sequences, context): (usize, usize)| {
        (sequences * context) as f64 * Flops::of_training(recipe, context).causal() as f64
    };
    let mut seconds;
    // Grow the pass: large ones use a device better, and the time of one predicts the next.
    let mut batch;
    loop {
        batch = random_batch(&config, size);
        engine.reserve(size.0, size.1, Passes::Both)?;
        engine.zero_gradients()?;
        if size.1 == FIRST_CONTEXT {
            // Warm-up: touches weights and gradients for the first time.
            engine.accumulate(&batch)?;
            engine.take_loss()?;
        }
        let start = Instant::now();
        engine.accumulate(&batch)?;
        // Waits for the pass, on a GPU too.
        engine.take_loss()?;
        seconds = start.elapsed().as_secs_f64();
        let next = match size {
            (sequences, context) if context < stage.context => (sequences, (2 * context).min(stage.context)),
            (sequences, context) => ((2 * sequences).min(recipe.objective.sequences(stage)), context),
        };
        let expected = seconds * flops(next) / flops(size);
        if next == size || !fits(next) || expected > PASSES.as_secs_f64() {
            break;
        }
        size = next;
    }
    // The first pass of a size touches its memory for the first time, so measure later ones.
    let (mut passes, start) = (0, Instant::now());
    while start.elapsed().as_secs_f64() + seconds < PASSES.as_secs_f64() {
        engine.accumulate(&batch)?;
        engine.take_loss()?;
        passes += 1;
    }
    if passes > 0 {
        seconds = start.elapsed().as_secs_f64() / f64::from(passes);
    }
    let update_seconds = update(&mut engine)?;
    Ok(Some(MeasuredThroughput {
        flops_per_second: flops(size) / seconds.max(1e-9),
        update_seconds,
        sequences: size.0,
        context: size.1,
        device: engine.device(),
    }))
}

/// Seconds of an optimizer step without its passes.
fn update<O: Ops>(engine: &mut Engine<O>) -> Result<f64> {
    let (mut updates, mut start) = (0, Instant::now());
    let begin = start;
    loop {
        engine.zero_gradients()?;
        engine.update(AdamW {
            learning_rate: LEARNING_RATE,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: 1,
            gradient_scale: 1.0,
            decayed: engine.parameters().matrices,
        })?;
        // Waits for the result, on a GPU too.
        engine.gradient_norm()?;
        updates += 1;
        if updates == 1 {
            // The moments have been touched for the first time.
            start = Instant::now();
        }
        if updates > 1 && begin.elapsed() > STEPS {
            return Ok(start.elapsed().as_secs_f64() / f64::from(updates - 1));
        }
    }
}

/// Windows of random tokens, each of one document.
fn random_batch(config: &Config, (sequences, context): (usize, usize)) -> TrainingBatch {
    let mut random = SplitMix::new(0, 0);
    let ids = (0..sequences * (context + 1)).map(|_| (random.next() % config.vocab as u64) as u32).collect();
    TrainingBatch::new(sequences, context, ids, vec![0; sequences * context])
}

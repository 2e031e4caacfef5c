//! The cost of a training recipe, before anything is loaded.

mod counts;
mod fit;
mod measure;
mod memory;
mod table;
#[cfg(test)]
mod tests;
mod warnings;

pub use counts::{DeviceTarget, Flops, ParameterCounts};
pub use measure::{MeasuredThroughput, measure};
pub use memory::{MemoryEstimate, available_memory};
pub use warnings::{LEAST_HELD_OUT_TOKENS, little_held_out};

use crate::data::token_set::{MANIFEST, Manifest};
use crate::error::Result;
use crate::prediction::{DOCUMENT_TOKENS, GpuModel, Prediction, unpredictable};
use crate::recipe::{Length, Precision, Stage, TrainingRecipe};
use crate::schedule::Schedule;
use fit::largest_micro_batch;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a plan needs besides the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// The kind of device.
    pub device: DeviceTarget,
    /// Available bytes; none if unknown.
    pub memory: Option<u64>,
    /// Tokens of each set, by name, as far as known.
    pub set_tokens: BTreeMap<String, u64>,
    /// How long the stages are on the examples of files, or why that is not known; of other recipes nothing.
    pub examples: std::result::Result<Vec<StageLength>, String>,
    /// Throughput, as given.
    pub tokens_per_second: Option<f64>,
    /// Throughput, as measured; a given one takes precedence.
    pub measured: Option<MeasuredThroughput>,
    /// Price of the machine, in any currency.
    pub price_per_hour: Option<f64>,
    /// The device's peak in 1e12 FLOPs per second, for the MFU.
    pub peak_tflops: Option<f64>,
    /// The GPU to predict the throughput of; a given or measured one takes precedence.
    pub gpu: Option<GpuModel>,
    /// Mean tokens of a document, for that.
    pub document_tokens: usize,
}

impl Assumptions {
    /// This machine's CPU, its free memory, and the existing sets.
    pub fn of_this_machine(recipe: &TrainingRecipe) -> Result<Assumptions> {
        Ok(Assumptions {
            device: DeviceTarget::Cpu,
            memory: available_memory(),
            set_tokens: known_tokens(recipe)?,
            examples: Err("the examples were not read".to_owned()),
            tokens_per_second: None,
            measured: None,
            price_per_hour: None,
            peak_tflops: None,
            gpu: None,
            document_tokens: mean_document(recipe)?.unwrap_or(DOCUMENT_TOKENS),
        })
    }
}

/// How long a stage is on the examples of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLength {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens of their examples.
    pub tokens: u64,
}

/// Tokens of the recipe's sets that exist; only manifests are read.
pub fn known_tokens(recipe: &TrainingRecipe) -> Result<BTreeMap<String, u64>> {
    let there = recipe.data.sets.iter().filter(|(_, path)| path.join(MANIFEST).is_file());
    there.map(|(name, path)| Ok((name.clone(), Manifest::read(path)?.tokens))).collect()
}

/// Mean tokens of a document in the recipe's sets, as far as they exist; none if none does.
fn mean_document(recipe: &TrainingRecipe) -> Result<Option<usize>> {
    let (mut tokens, mut documents) = (0, 0);
    for path in recipe.data.sets.values().filter(|path| path.join(MANIFEST).is_file()) {
        let manifest = Manifest::read(path)?;
        (tokens, documents) = (tokens + manifest.tokens, documents + manifest.documents);
    }
    Ok(tokens.checked_div(documents).map(|mean| (mean as usize).max(1)))
}

/// One stage's cost. Values that depend on an unknown size of a set are none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StagePlan {
    /// The stage's name.
    pub name: String,
    /// Tokens of one sequence.
    pub context: usize,
    /// Sequences per pass.
    pub micro_batch: usize,
    /// Passes per step.
    pub accumulate: usize,
    /// Sequences of one pass: a pair has two.
    pub sequences: usize,
    /// Tokens of one optimizer step; of examples at most.
    pub tokens_per_step: u64,
    /// Optimizer steps.
    pub steps: Option<u64>,
    /// Tokens, whole steps of them; of examples those that there are.
    pub tokens: Option<u64>,
    /// Passes over the mixture's sets together.
    pub epochs: Option<f64>,
    /// Sets whose unknown size the number of steps depends on.
    pub sets_missing: Vec<String>,
    /// The learning rate.
    pub schedule: Schedule,
    /// Operations per token.
    pub flops_per_token: Flops,
    /// Bytes for one micro-batch.
    pub memory: MemoryEstimate,
    /// The most sequences of a pass that fit the GPU's memory; none on the CPU, or if the memory is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_micro_batch: Option<usize>,
    /// Throughput, given, measured or predicted.
    pub tokens_per_second: Option<f64>,
    /// The prediction for the GPU that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// Duration at that throughput.
    pub hours: Option<f64>,
    /// Share of the device's peak that the throughput makes use of, attention by the causal half.
    pub mfu_causal: Option<f64>,
    /// The same, attention whole.
    pub mfu_whole: Option<f64>,
}

/// A recipe's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// The recipe's name.
    pub recipe: String,
    /// The kind of device.
    pub device: DeviceTarget,
    /// Format of weights and activations there.
    pub precision: Precision,
    /// Parameters by part.
    pub parameters: ParameterCounts,
    /// The stages, in order.
    pub stages: Vec<StagePlan>,
    /// Why steps and tokens are not known, where they depend on examples that could not be read.
    pub examples_missing: Option<String>,
    /// Steps of all stages.
    pub steps: Option<u64>,
    /// Tokens of all stages.
    pub tokens: Option<u64>,
    /// Operations of the whole run, attention by the causal half.
    pub flops_causal: Option<f64>,
    /// Operations of the whole run, attention whole.
    pub flops_whole: Option<f64>,
    /// Duration at the stages' throughput.
    pub hours: Option<f64>,
    /// The measurement, if the throughput was measured.
    pub measured: Option<MeasuredThroughput>,
    /// Likely mistakes in the recipe, a sentence each.
    pub warnings: Vec<String>,
    /// Price of that time.
    pub cost: Option<f64>,
    /// Bytes of one checkpoint: master weights and both moments.
    pub checkpoint_bytes: u64,
    /// Checkpoints on the disk at the same time: the newest, the best, and the one being written.
    pub checkpoints: usize,
    /// Bytes that may be used.
    pub memory_available: Option<u64>,
    #[serde(skip)]
    source: TrainingRecipe,
    #[serde(skip)]
    assumptions: Assumptions,
}

/// Computes the cost of a recipe.
///
/// Errors where a stage is shorter than a step or than its warm-up, as far as its length is known. Whether the memory
/// suffices is for [`TrainingPlan::fit`] to say.
pub fn plan(recipe: &TrainingRecipe, assumptions: &Assumptions) -> Result<TrainingPlan> {
    let precision = match assumptions.device {
        DeviceTarget::Cpu => Precision::F32,
        DeviceTarget::Cuda => recipe.compute.precision,
    };
    let parameters = ParameterCounts::of_recipe(recipe);
    let stages = recipe.stages.iter().enumerate();
    let stages: Vec<StagePlan> =
        stages.map(|(index, stage)| plan_stage(recipe, index, stage, assumptions)).collect::<Result<_>>()?;
    let sum = |of: fn(&StagePlan) -> Option<f64>| stages.iter().map(of).sum::<Option<f64>>();
    let hours = sum(|stage| stage.hours);
    let of_examples = !recipe.objective.reads_token_sets();
    Ok(TrainingPlan {
        recipe: recipe.name.clone(),
        device: assumptions.device,
        precision,
        parameters,
        examples_missing: assumptions.examples.as_ref().err().filter(|_| of_examples).cloned(),
        steps: total(stages.iter().map(|stage| stage.steps)),
        tokens: total(stages.iter().map(|stage| stage.tokens)),
        flops_causal: sum(|stage| Some(stage.tokens? as f64 * stage.flops_per_token.causal() as f64)),
        flops_whole: sum(|stage| Some(stage.tokens? as f64 * stage.flops_per_token.whole() as f64)),
        hours,
        measured: assumptions.measured.clone().filter(|_| assumptions.tokens_per_second.is_none()),
        warnings: warnings::warnings(recipe, &stages, assumptions),
        cost: hours.zip(assumptions.price_per_hour).map(|(hours, price)| hours * price),
        checkpoint_bytes: 3 * 4 * parameters.trained,
        checkpoints: recipe.checkpoint.last + 2,
        memory_available: assumptions.memory,
        stages,
        source: recipe.clone(),
        assumptions: assumptions.clone(),
    })
}

/// The sum; none where a part is unknown.
fn total(mut parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.try_fold(0u64, |sum, part| Some(sum.saturating_add(part?)))
}

fn plan_stage(
    recipe: &TrainingRecipe,
    index: usize,
    stage: &Stage,
    assumptions: &Assumptions,
) -> Result<StagePlan> {
    let drawn: Vec<&String> = stage.mixture.keys().filter(|set| stage.share(set) > 0.0).collect();
    let sizes = || drawn.iter().map(|set| assumptions.set_tokens.get(*set).copied());
    // How many steps an epoch of examples has is known only when they are read.
    let of_examples = !recipe.objective.reads_token_sets();
    let read =
        assumptions.examples.as_ref().ok().filter(|_| of_examples).and_then(|stages| stages.get(index));
    let epoch_tokens = total(sizes()).filter(|_| !of_examples);
    let steps = read.map(|length| length.steps).or_else(|| stage.steps(epoch_tokens));
    if let (Some(steps), None) = (steps, read) {
        stage.check_steps(index, steps, epoch_tokens.unwrap_or(0))?;
    }
    let sets_missing = match stage.length {
        Length::Epochs(_) => {
            let missing = drawn.iter().zip(sizes()).filter(|(_, size)| size.is_none());
            missing.map(|(set, _)| (*set).clone()).collect()
        }
        Length::Steps(_) | Length::Tokens(_) => Vec::new(),
    };
    let flops = Flops::of_stage(recipe, index, stage.context);
    let sequences = recipe.objective.sequences(stage);
    let tokens_per_step = recipe.objective.tokens_per_step(stage);
    let tokens = match read {
        Some(length) => Some(length.tokens),
        // How full the sequences are is known only with the examples.
        None if of_examples => None,
        None => steps.map(|steps| steps * tokens_per_step),
    };
    let measured = assumptions.measured.as_ref().map(|measured| measured.tokens_per_second(recipe, index));
    let prediction = match assumptions.gpu {
        Some(gpu) if unpredictable(recipe).is_none() => {
            Some(Prediction::of(recipe, stage, gpu, assumptions.document_tokens)?)
        }
        _ => None,
    };
    let predicted = prediction.as_ref().map(|found| found.of_recipe(recipe).tokens_per_second);
    let throughput = assumptions.tokens_per_second.or(measured).or(predicted);
    let peak = assumptions.peak_tflops.map(|peak| peak * 1e12);
    let peak = peak.or(assumptions.gpu.map(|gpu| gpu.sheet().tensor_flops));
    let mfu = |flops: u64| Some(flops as f64 * throughput? / peak?);
    Ok(StagePlan {
        name: stage.name.clone(),
        context: stage.context,
        micro_batch: stage.micro_batch,
        accumulate: stage.accumulate,
        sequences,
        tokens_per_step,
        steps,
        tokens,
        epochs: tokens.zip(epoch_tokens).map(|(tokens, epoch)| tokens as f64 / epoch as f64),
        sets_missing,
        schedule: stage.schedule.clone(),
        flops_per_token: flops,
        memory: MemoryEstimate::of(recipe, assumptions.device, (sequences, stage.context)),
        largest_micro_batch: match (assumptions.device, assumptions.memory) {
            (DeviceTarget::Cuda, Some(memory)) => Some(largest_micro_batch(recipe, stage, memory)),
            _ => None,
        },
        tokens_per_second: throughput,
        prediction,
        hours: tokens.zip(throughput).map(|(tokens, throughput)| tokens as f64 / throughput / 3600.0),
        mfu_causal: mfu(flops.causal()),
        mfu_whole: mfu(flops.whole()),
    })
}

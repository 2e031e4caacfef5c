//! The training recipe: everything that determines a run. The resolved recipe is saved with every run.

mod adapter;
mod check;
mod check_data;
mod check_quantize;
mod decimal;
mod document;
mod fault;
mod load;
mod model_shape;
#[cfg(test)]
mod model_tests;
mod objective;
#[cfg(test)]
mod objective_tests;
mod optional;
mod paths;
mod rope_scaling;
#[cfg(test)]
mod tests;

pub use adapter::{AdaptedMatrix, AdapterKeys};
pub use fault::{Fault, RecipeError};
pub use load::BUILT_IN;
pub use model_shape::{ModelShape, PatternKeys};
pub use objective::{DistillKeys, DpoKeys, DpoLoss, ObjectiveKeys, QuantizationScales, SftKeys, SftTargets};
pub use rope_scaling::RopeScalingKeys;

use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thimble_runtime::format::Config;

/// A run, as a `.toml` file under `recipes/` describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecipe {
    /// Names the run folder and the exported model.
    pub name: String,
    /// Seeds the initial weights and the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// The model that the run begins with: a Hugging Face folder, a GGUF or `.thimble` file, or the name of a model that
    /// `thimble pull` fetched. What `[model]` leaves out is taken from it, with `model = "none"` all of it. None: random
    /// weights.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub init_from: Option<String>,
    /// Tensors whose weights stay as they are: `embedding`, `head`, `norms`, `layers.N`, `layers.N-M`, or Hugging Face names in
    /// which `*` stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// The model's shape.
    pub model: ModelShape,
    /// What the run minimizes.
    #[serde(default, skip_serializing_if = "ObjectiveKeys::is_pretrain")]
    pub objective: ObjectiveKeys,
    /// Where the data lies.
    pub data: DataPaths,
    /// Low-rank adapters; none: all weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterKeys>,
    /// AdamW and gradient clipping.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Number formats and recomputation.
    #[serde(default)]
    pub compute: Compute,
    /// The held-out loss.
    #[serde(default)]
    pub validation: Option<Validation>,
    /// Sample text during training.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// Checkpoints on disk.
    #[serde(default)]
    pub checkpoint: CheckpointPolicy,
    /// Bad steps.
    #[serde(default)]
    pub guard: Guard,
    /// The stages, in order; each has its own length, data mixture, context and learning rate.
    pub stages: Vec<Stage>,
}

/// Where the data lies. Relative paths start at the working folder; a run keeps them as absolute ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataPaths {
    /// Files of examples, of the objectives `sft` and `dpo`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Examples that are not trained on, of the same objectives.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub held_out: Option<HeldOut>,
    /// Token sets by name, of the objectives `pretrain` and `distill`: folders that `thimble-train tokenize` wrote.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, PathBuf>,
}

/// Examples that are not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of files, or a share such as 0.05")]
pub enum HeldOut {
    /// A share of the examples, from 0 to below 1.
    Share(f64),
    /// Files of their own.
    Files(Vec<PathBuf>),
}

/// AdamW (Loshchilov and Hutter 2019). Weight decay is for matrices only, the embedding among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; `clip = "none"`: no clipping.
    #[serde(serialize_with = "optional::number_or_none", deserialize_with = "optional::or_none")]
    pub clip: Option<f64>,
    /// Weight of the squared log-partition in the loss (Chowdhery et al. 2022, section 5); none: off.
    #[serde(deserialize_with = "optional::or_none")]
    pub z_loss: Option<f64>,
}

/// Number format of weights and activations; masters, moments and gradients are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16; training on the CPU uses f32 instead.
    Bf16,
}

/// Number formats and recomputation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Compute {
    /// Format of weights and activations.
    pub precision: Precision,
    /// Keep one residual per layer and compute the rest of the layer again in the backward pass.
    pub activation_checkpointing: bool,
    /// Tokens see only their own document.
    pub document_mask: bool,
}

/// The loss on data that is not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Name of the set in `[data.sets]`; the objectives `sft` and `dpo` have `data.held_out` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Steps between two measurements.
    pub every: u64,
    /// Windows of the stage's context, from the set's beginning; none: all of it. Of examples: the first so many.
    #[serde(default, deserialize_with = "optional::or_none")]
    pub windows: Option<usize>,
    /// Takes the windows from all over the set instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spread: bool,
}

/// Sample text during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Steps between two samples.
    pub every: u64,
    /// Prompts to complete.
    pub prompts: Vec<String>,
    /// Tokens to write for each.
    #[serde(default = "default_sample_tokens")]
    pub tokens: usize,
    /// Softmax temperature; 0 takes the likeliest token.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// Whether the prompts are messages of a user, answered through the model's chat template; none: with the objectives
    /// `sft` and `dpo`, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<bool>,
}

/// Checkpoints on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointPolicy {
    /// Steps between two checkpoints.
    pub every: u64,
    /// Newest checkpoints to keep, besides the best one.
    pub last: usize,
}

/// What a bad step does to the run: one whose loss or gradient is not finite, or whose loss spikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadStep {
    /// It ends the run, with a checkpoint of the state before it.
    #[default]
    Stop,
    /// Its gradient is thrown away, its data are logged, and the run goes on behind them.
    Skip,
}

/// What is a bad step, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Whether a bad step ends the run or is skipped.
    pub on_bad_step: BadStep,
    /// Steps in a row that may be skipped; one more ends the run.
    pub most_skipped: u64,
    /// A loss this much above the running mean of the last `window` steps is bad; none: only numbers that are not finite are.
    #[serde(deserialize_with = "optional::or_none")]
    pub loss_spike: Option<f64>,
    /// Steps in the running mean; the spike check starts after five, or after as many as the window has if these are fewer.
    pub window: usize,
}

/// How long a stage is; exactly one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "LengthKeys")]
pub enum Length {
    /// Optimizer steps.
    Steps(u64),
    /// Tokens, rounded up to whole steps.
    Tokens(u64),
    /// Passes over the stage's mixture (as many tokens as all its sets hold), rounded down to whole steps.
    Epochs(f64),
}

/// A length as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, { steps = ... }, { tokens = ... } or { epochs = ... }")]
struct LengthKeys {
    steps: Option<u64>,
    tokens: Option<u64>,
    epochs: Option<f64>,
}

impl TryFrom<LengthKeys> for Length {
    type Error = &'static str;

    fn try_from(keys: LengthKeys) -> Result<Length, &'static str> {
        match keys {
            LengthKeys { steps: Some(steps), tokens: None, epochs: None } => Ok(Length::Steps(steps)),
            LengthKeys { steps: None, tokens: Some(tokens), epochs: None } => Ok(Length::Tokens(tokens)),
            LengthKeys { steps: None, tokens: None, epochs: Some(epochs) } => Ok(Length::Epochs(epochs)),
            _ => Err(
                "expected exactly one of the keys steps, tokens, epochs; an override replaces the table whole, \
                      as in 'stages.0.length={ steps = 100 }'",
            ),
        }
    }
}

/// A part of the training with its own length, mixture, context and learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Shown in progress lines and plots.
    pub name: String,
    /// `length = { steps = 1000 }`, `{ tokens = 1e9 }` (an integer) or `{ epochs = 1.0 }`.
    pub length: Length,
    /// Tokens of one sequence.
    pub context: usize,
    /// Sequences in one pass through the model.
    pub micro_batch: usize,
    /// Passes whose gradients are added up before one optimizer step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// A new base of the rotary frequencies from this stage on.
    #[serde(default, deserialize_with = "optional::or_none")]
    pub rope_theta: Option<f64>,
    /// Share of each set's tokens, by name; they are scaled to sum to one. Empty where the data are files of examples.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mixture: BTreeMap<String, f64>,
    /// Learning rate over this stage's steps.
    pub schedule: Schedule,
    /// Reset the optimizer's moments and step count.
    #[serde(default)]
    pub reset_optimizer: bool,
    /// Trains the stage for a quantized file: by self-distillation through its rounding, from the model as it stands when
    /// the first such stage begins.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub quantize: Option<DistillKeys>,
}

impl TrainingRecipe {
    /// The model in a stage: with the last rotary base that a stage up to it gave.
    pub fn config(&self, stage: usize) -> Config {
        let given = self.stages.iter().take(stage + 1).rev().find_map(|stage| stage.rope_theta);
        let rope_theta = given.unwrap_or(self.model.rope_theta);
        ModelShape { rope_theta, ..self.model.clone() }.config()
    }

    /// The first stage that trains for a quantized file, as do all behind it, and for which; none where the recipe does
    /// not.
    pub fn quantization(&self) -> Option<(usize, &DistillKeys)> {
        match &self.objective {
            ObjectiveKeys::Distill(keys) => Some((0, keys)),
            _ => self
                .stages
                .iter()
                .enumerate()
                .find_map(|(index, stage)| Some((index, stage.quantize.as_ref()?))),
        }
    }
}

impl Stage {
    /// Tokens of one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        self.context as u64 * self.micro_batch as u64 * self.accumulate as u64
    }

    /// Optimizer steps, or none where the length is in epochs and `epoch_tokens` (the tokens of all sets of the mixture
    /// together) is not known.
    pub fn steps(&self, epoch_tokens: Option<u64>) -> Option<u64> {
        match self.length {
            Length::Steps(steps) => Some(steps),
            Length::Tokens(tokens) => Some(tokens.div_ceil(self.tokens_per_step())),
            Length::Epochs(epochs) => {
                epoch_tokens.map(|tokens| (epochs * tokens as f64) as u64 / self.tokens_per_step())
            }
        }
    }

    /// A set's share of this stage's tokens, from 0 to 1.
    pub fn share(&self, set: &str) -> f64 {
        let sum: f64 = self.mixture.values().sum();
        self.mixture.get(set).map_or(0.0, |weight| weight / sum)
    }
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip: Some(1.0), z_loss: None }
    }
}

impl Default for CheckpointPolicy {
    fn default() -> CheckpointPolicy {
        CheckpointPolicy { every: 500, last: 2 }
    }
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { on_bad_step: BadStep::Stop, most_skipped: 10, loss_spike: None, window: 100 }
    }
}

fn default_sample_tokens() -> usize {
    64
}
fn default_temperature() -> f64 {
    0.8
}
fn one() -> usize {
    1
}

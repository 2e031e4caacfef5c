//! Parameters and floating-point operations of a model.

use crate::model::Parameters;
use crate::recipe::TrainingRecipe;
use serde::Serialize;
use thimble_runtime::format::{Config, TensorRole};

/// Forward once and backward twice: the activations' gradients and the weights' gradients cost a forward pass each.
const PASSES: u64 = 3;
/// The same of attention where no layer below is trained, and of a model that only predicts.
const FORWARD: u64 = 1;

/// The kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceTarget {
    /// The CPU, in f32.
    Cpu,
    /// A GPU, in the recipe's precision.
    Cuda,
}

/// Parameters by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterCounts {
    /// vocab x hidden.
    pub embedding: u64,
    /// The same again where the head is not the embedding, else 0.
    pub head: u64,
    /// Query, key, value and output projections of all layers, with their biases.
    pub attention: u64,
    /// Gate, up and down projections of all layers.
    pub ffn: u64,
    /// Norms of all layers, those of query and key heads among them, and the last one.
    pub norms: u64,
    /// The sum.
    pub total: u64,
    /// Adapters beside the model, which the sum does not count.
    pub adapters: u64,
    /// Those that are trained: of the model, or of its adapters.
    pub trained: u64,
}

impl ParameterCounts {
    /// Counts the parameters of a recipe's model, and what of it is trained. What `freeze` gets wrong counts as trained: the
    /// run refuses it when it begins.
    pub fn of_recipe(recipe: &TrainingRecipe) -> ParameterCounts {
        let counts = ParameterCounts::of(&recipe.model.config());
        match Parameters::of(recipe) {
            Ok(parameters) => ParameterCounts {
                adapters: parameters.len as u64 - counts.total,
                trained: parameters.trainable as u64,
                ..counts
            },
            Err(_) => counts,
        }
    }

    /// Counts a model's parameters, all of which are trained.
    pub fn of(config: &Config) -> ParameterCounts {
        use TensorRole as Role;
        let layers = config.layers as u64;
        let in_layers = |counts: &dyn Fn(Role) -> bool| {
            layers
                * Role::of_layer(config)
                    .filter(|&role| counts(role))
                    .map(|role| elements(config, role))
                    .sum::<u64>()
        };
        let embedding = elements(config, Role::Embedding);
        let head = if config.tied { 0 } else { elements(config, Role::Head) };
        let ffn = in_layers(&is_ffn);
        let norms = in_layers(&is_norm) + elements(config, Role::FinalNorm);
        let attention = in_layers(&|role| !is_ffn(role) && !is_norm(role));
        let total = embedding + head + attention + ffn + norms;
        ParameterCounts { embedding, head, attention, ffn, norms, total, adapters: 0, trained: total }
    }
}

/// Operations of a layer's attention in one pass, for one token: two products of 2 x keys x width.
fn attention(config: &Config, layer: usize, context: usize) -> u64 {
    let context = context as u64;
    // Keys per token, doubled: a window of w positions leaves w (2 context - w) of the square's context^2.
    let keys = match config.layer(layer).window.map(|window| window as u64) {
        Some(window) if window < context => window * (2 * context - window) / context,
        _ => context,
    };
    4 * keys * config.q_dim() as u64
}

/// The layer of a tensor, or of an adapter.
fn layer_of(name: &str) -> Option<usize> {
    name.split_once("model.layers.")?.1.split('.').next()?.parse().ok()
}

fn elements(config: &Config, role: TensorRole) -> u64 {
    let (rows, columns) = role.shape(config);
    rows as u64 * columns as u64
}

fn is_ffn(role: TensorRole) -> bool {
    matches!(role, TensorRole::Gate | TensorRole::Up | TensorRole::Down)
}

fn is_norm(role: TensorRole) -> bool {
    use TensorRole as Role;
    matches!(role, Role::AttentionNorm | Role::FfnNorm | Role::QueryNorm | Role::KeyNorm)
}

/// Floating-point operations to train on one token, forward and backward (a multiplication and an addition are two).
/// Activation checkpointing computes the layers' forward pass once more; that is not counted, as in any MFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Projections of all layers.
    pub linears: u64,
    /// Logits.
    pub head: u64,
    /// Scores and their sums over values, counted for the half of the square that causal attention needs, or the part of
    /// that half inside a sliding window.
    pub attention_causal: u64,
    /// Twice as much: the same for the whole square.
    pub attention_whole: u64,
}

impl Flops {
    /// Counts one token's operations at a context where all weights are trained; a document mask would make attention cheaper
    /// than both.
    pub fn of(config: &Config, context: usize) -> Flops {
        let layers = config.layers as u64;
        let matrices = TensorRole::of_layer(config).filter(|role| !role.is_vector());
        let linears = layers * matrices.map(|role| elements(config, role)).sum::<u64>();
        let attention_whole =
            (0..config.layers).map(|layer| PASSES * attention(config, layer, context)).sum::<u64>();
        Flops {
            linears: PASSES * 2 * linears,
            head: PASSES * 2 * elements(config, TensorRole::Embedding),
            attention_causal: attention_whole / 2,
            attention_whole,
        }
    }

    /// The same as a recipe trains in a stage, by its index: a frozen matrix has no gradient of its weights, what lies below
    /// all that is trained has none at all, and adapters and a teacher add their own.
    pub fn of_stage(recipe: &TrainingRecipe, stage: usize, context: usize) -> Flops {
        let flops = Flops::of_training(recipe, context);
        match recipe.quantization() {
            Some((first, _)) if stage >= first => flops.with_teacher(&recipe.model.config(), context),
            _ => flops,
        }
    }

    /// As [`Flops::of_stage`], without a teacher.
    pub fn of_training(recipe: &TrainingRecipe, context: usize) -> Flops {
        let config = recipe.model.config();
        let full = Flops::of(&config, context);
        // What `freeze` gets wrong is refused when the run begins.
        let Ok(parameters) = Parameters::of(recipe) else { return full };
        let lowest = parameters.lowest_layer;
        let trained = |start: usize| u64::from(start < parameters.trainable);
        let matrices = parameters.named().iter().filter(|named| named.shape.len() > 1);
        let linears = matrices.filter_map(|named| {
            let layer = layer_of(&named.name)?;
            let gradients = u64::from(layer >= lowest) + trained(named.start);
            Some((FORWARD + gradients) * 2 * named.len() as u64)
        });
        let passes = |layer: usize| if layer >= lowest { PASSES } else { FORWARD };
        let attention_whole =
            (0..config.layers).map(|layer| passes(layer) * attention(&config, layer, context)).sum::<u64>();
        Flops {
            linears: linears.sum(),
            head: full.head / PASSES * (PASSES - 1 + trained(parameters.head.start)),
            attention_causal: attention_whole / 2,
            attention_whole,
        }
    }

    /// These and a forward pass of a model that teaches.
    fn with_teacher(self, config: &Config, context: usize) -> Flops {
        let teacher = Flops::of(config, context);
        let forward = |all: u64| all / PASSES * FORWARD;
        Flops {
            linears: self.linears + forward(teacher.linears),
            head: self.head + forward(teacher.head),
            attention_causal: self.attention_causal + forward(teacher.attention_causal),
            attention_whole: self.attention_whole + forward(teacher.attention_whole),
        }
    }

    /// All parts, with attention by the causal half.
    pub fn causal(&self) -> u64 {
        self.linears + self.head + self.attention_causal
    }

    /// All parts, with attention whole.
    pub fn whole(&self) -> u64 {
        self.linears + self.head + self.attention_whole
    }
}

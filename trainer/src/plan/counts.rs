//! Parameters and floating-point operations of a model.

use serde::Serialize;
use thimble_runtime::format::{Config, TensorRole};

/// Forward once and backward twice: the activations' gradients and the weights' gradients cost a forward pass each.
const PASSES: u64 = 3;

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
}

impl ParameterCounts {
    /// Counts a model's parameters.
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
        ParameterCounts {
            embedding,
            head,
            attention,
            ffn,
            norms,
            total: embedding + head + attention + ffn + norms,
        }
    }
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
    /// Counts one token's operations at a context; a document mask would make attention cheaper than both.
    pub fn of(config: &Config, context: usize) -> Flops {
        let layers = config.layers as u64;
        let matrices = TensorRole::of_layer(config).filter(|role| !role.is_vector());
        let linears = layers * matrices.map(|role| elements(config, role)).sum::<u64>();
        // Keys per token, doubled: a window of w positions leaves w (2 context - w) of the square's context^2.
        let keys = |layer: usize| {
            let context = context as u64;
            match config.layer(layer).window.map(|window| window as u64) {
                Some(window) if window < context => window * (2 * context - window) / context,
                _ => context,
            }
        };
        // Two products of 2 x keys x width operations per layer.
        let keys: u64 = (0..config.layers).map(keys).sum();
        let attention_whole = PASSES * 4 * keys * config.q_dim() as u64;
        Flops {
            linears: PASSES * 2 * linears,
            head: PASSES * 2 * elements(config, TensorRole::Embedding),
            attention_causal: attention_whole / 2,
            attention_whole,
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

//! Parameters and floating-point operations of a model.

use crate::recipe::ModelShape;
use serde::Serialize;

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
    /// Query, key, value and output projections of all layers.
    pub attention: u64,
    /// Gate, up and down projections of all layers.
    pub ffn: u64,
    /// Two norms per layer and the last one.
    pub norms: u64,
    /// The sum.
    pub total: u64,
}

impl ParameterCounts {
    /// Counts a shape's parameters.
    pub fn of(model: &ModelShape) -> ParameterCounts {
        let [hidden, layers, ffn] = [model.hidden, model.layers, model.ffn].map(|size| size as u64);
        let [query, key] = [model.heads, model.kv_heads].map(|heads| (heads * model.head_width()) as u64);
        let embedding = model.vocab as u64 * hidden;
        let head = if model.tied { 0 } else { embedding };
        let attention = layers * hidden * (2 * query + 2 * key);
        let ffn = layers * 3 * hidden * ffn;
        let norms = (2 * layers + 1) * hidden;
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

/// Floating-point operations to train on one token, forward and backward (a multiplication and an addition are two).
/// Activation checkpointing computes the layers' forward pass once more; that is not counted, as in any MFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Projections of all layers.
    pub linears: u64,
    /// Logits.
    pub head: u64,
    /// Scores and their sums over values, counted for the half of the square that causal attention needs.
    pub attention_causal: u64,
    /// The same for the whole square, twice as much.
    pub attention_whole: u64,
}

impl Flops {
    /// Counts one token's operations at a context; a document mask would make attention cheaper than both.
    pub fn of(model: &ModelShape, context: usize) -> Flops {
        let parameters = ParameterCounts::of(model);
        let width = (model.heads * model.head_width()) as u64;
        // Two products of 2 x context x width operations per layer.
        let attention_whole = PASSES * 4 * context as u64 * width * model.layers as u64;
        Flops {
            linears: PASSES * 2 * (parameters.attention + parameters.ffn),
            head: PASSES * 2 * parameters.embedding,
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

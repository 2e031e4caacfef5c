//! The operations of a training step, each with its gradient, behind one trait.
//!
//! Activations live in one arena of the device, weights, gradients and moments in flat buffers; operations name them by
//! [`BufferSpan`], [`WeightMatrix`] and [`WeightVector`]. [`cpu`] is the f32 implementation on threads; [`candle`] runs
//! the same operations through candle's tensors on any of its devices.

mod adapter;
pub mod candle;
pub mod cpu;
pub mod cuda;
mod distillation;
mod rotary;

pub use adapter::{Adapter, AdapterGradient, AdapterPart, MAX_PARTS};
pub use distillation::{Distillation, DistillationOps, Rounding, WeightCopy};

use crate::data::TrainingBatch;
use crate::error::Result;
use std::ops::Range;
use thimble_runtime::format::{LayerOptions, RopeParameters};

/// A stretch of the activation arena, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSpan {
    /// First element.
    pub start: usize,
    /// Elements.
    pub len: usize,
}

impl BufferSpan {
    /// As a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// A matrix among the parameters: `rows` outputs of `columns` inputs each, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightMatrix {
    /// First element in the flat buffer.
    pub start: usize,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
}

impl WeightMatrix {
    /// As a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.rows * self.columns
    }
}

/// A vector among the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightVector {
    /// First element in the flat buffer.
    pub start: usize,
    /// Elements.
    pub len: usize,
}

impl WeightVector {
    /// As a range of indices.
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// The flat buffers beside the arena, all f32: weights of all parameters, the others of the trainable ones, with which the
/// weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Master weights.
    Weights,
    /// Gradients, summed over the micro-batches of a step.
    Gradients,
    /// AdamW's first moment.
    FirstMoment,
    /// AdamW's second moment.
    SecondMoment,
}

/// Lengths of the flat buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLengths {
    /// Elements of the weights.
    pub weights: usize,
    /// Elements of gradients and moments; the weights beyond are frozen.
    pub gradients: usize,
}

impl From<usize> for BufferLengths {
    /// Of so many parameters, none of them frozen.
    fn from(parameters: usize) -> BufferLengths {
        BufferLengths { weights: parameters, gradients: parameters }
    }
}

/// RMSNorm of rows (Zhang and Sennrich 2019): `input / rms(input) x weight`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// `rows x weight.len`.
    pub input: BufferSpan,
    /// The factor of each column.
    pub weight: WeightVector,
    /// `1 / rms` of each row, a statistic.
    pub inverse_rms: BufferSpan,
}

/// Query, key and value heads, laid out head by head: `sequences x heads x context x head_dim`.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Queries, `sequences x heads x context x head_dim`.
    pub query: BufferSpan,
    /// Keys, `sequences x kv_heads x context x head_dim`.
    pub key: BufferSpan,
    /// Values, like the keys.
    pub value: BufferSpan,
}

/// Outputs of attention that its gradient needs.
#[derive(Clone, Copy, Debug)]
pub struct Attended {
    /// `tokens x (heads x head_dim)`, token by token.
    pub output: BufferSpan,
    /// Log of each softmax's denominator, `tokens x heads` statistics.
    pub log_sum: BufferSpan,
}

/// Sizes and options of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Windows.
    pub sequences: usize,
    /// Positions of a window.
    pub context: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a position sees only its own document.
    pub document_mask: bool,
    /// The layer's options.
    pub options: LayerOptions,
}

impl AttentionShape {
    /// The factor of the scores.
    pub fn scale(&self) -> f32 {
        self.options.score_scale(self.head_dim)
    }
}

/// Parameters of the loss's gradient.
#[derive(Clone, Copy, Debug)]
pub struct LossTerms {
    /// Weight of the squared log-partition, 0 for none.
    pub z_loss: f32,
}

/// One AdamW step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps taken before, plus one.
    pub step: u64,
    /// Factor of the gradients (clipping).
    pub gradient_scale: f32,
    /// Parameters before this index decay (matrices), those after it do not (norms).
    pub decayed: usize,
}

/// The operations of forward and backward pass on one device.
///
/// "tokens" is `sequences x context` throughout. Gradients of trainable parameters are added to [`Buffer::Gradients`], those
/// of frozen ones are not computed; gradients of activations are written, or added where it says so. Every operation is deterministic: the same input gives the
/// same bits on the same device.
pub trait Ops: DistillationOps {
    /// The device, for display.
    fn device(&self) -> String;

    /// Makes the activation arena at least `elements` long; its content is lost.
    ///
    /// # Errors
    /// The device lacks the memory.
    fn reserve(&mut self, elements: usize) -> Result<()>;

    /// Bytes of one activation.
    fn activation_bytes(&self) -> usize;

    /// Elements of the arena that one statistic takes, which is f32 whatever the activations are.
    fn statistic_elements(&self) -> usize;

    /// Replaces the beginning of a flat buffer.
    fn write(&mut self, buffer: Buffer, values: &[f32]) -> Result<()>;

    /// Copies the beginning of a flat buffer out.
    fn read(&self, buffer: Buffer, values: &mut [f32]) -> Result<()>;

    /// Copies activations out, as f32.
    fn read_span(&self, span: BufferSpan, values: &mut [f32]) -> Result<()>;

    /// Zeroes activations.
    fn zero(&mut self, span: BufferSpan) -> Result<()>;

    /// Zeroes the gradients.
    fn zero_gradients(&mut self) -> Result<()>;

    /// Loads the batch for `embed`, `attention` and `loss`.
    fn load_batch(&mut self, batch: &TrainingBatch) -> Result<()>;

    /// Replaces the weights of the loaded batch's targets, `tokens` values.
    fn set_target_weights(&mut self, weights: &[f32]) -> Result<()>;

    /// Sets the rotations of the rotary embedding ([`RopeParameters::rotation`]) for positions below `context`.
    fn set_rotary(&mut self, rope: &RopeParameters, head_dim: usize, context: usize) -> Result<()>;

    /// Rows of the table for the batch's inputs: `output` is `tokens x columns`.
    fn embed(&mut self, table: WeightMatrix, output: BufferSpan) -> Result<()>;
    /// Adds each token's gradient to its row of the table's gradient.
    fn embed_backward(&mut self, table: WeightMatrix, d_output: BufferSpan) -> Result<()>;

    /// Writes `output`, and `inverse_rms` for the gradient.
    fn rms_norm(&mut self, norm: RmsNorm, output: BufferSpan) -> Result<()>;
    /// Adds to `d_input` and to the weight's gradient, and replaces `d_output` by the norm's output, computed again.
    fn rms_norm_backward(&mut self, norm: RmsNorm, d_output: BufferSpan, d_input: BufferSpan) -> Result<()>;

    /// `output = input x weight^T`, plus `residual` where there is one (of the output's shape).
    fn linear(
        &mut self,
        input: BufferSpan,
        weight: WeightMatrix,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()>;
    /// Writes `d_input = d_output x weight`.
    fn linear_input_gradient(
        &mut self,
        weight: WeightMatrix,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()>;
    /// Adds `d_output^T x input` to the weight's gradient.
    fn linear_weight_gradient(
        &mut self,
        weight: WeightMatrix,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()>;

    /// Writes `hidden = input x A^T`, and adds each part's `scale x hidden x B^T` to its columns of `output`.
    fn adapter(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        hidden: BufferSpan,
        output: BufferSpan,
    ) -> Result<()>;
    /// Writes `d_hidden = scale x d_output x B` and adds `d_hidden x A` to `d_input`.
    fn adapter_input_gradient(
        &mut self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()>;
    /// Adds to the gradients of A and B, with the `d_hidden` that `adapter_input_gradient` wrote.
    fn adapter_weight_gradient(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()>;

    /// Adds the bias to every row of `output`, `tokens x bias.len`.
    fn add_bias(&mut self, bias: WeightVector, output: BufferSpan) -> Result<()>;
    /// Adds the column sums of `d_output` to the bias's gradient.
    fn add_bias_backward(&mut self, bias: WeightVector, d_output: BufferSpan) -> Result<()>;

    /// Splits `tokens x ((heads + 2 kv_heads) x head_dim)` into heads and, if `rope`, rotates queries and keys (halves,
    /// as transformers does).
    fn split_heads(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        fused: BufferSpan,
        heads: Heads,
    ) -> Result<()>;
    /// The reverse: if `rope`, rotates the gradients of queries and keys back; concatenates all three.
    fn split_heads_backward(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        d_heads: Heads,
        d_fused: BufferSpan,
    ) -> Result<()>;
    /// Rotates queries and keys where they lie.
    fn rotate(&mut self, shape: AttentionShape, heads: Heads) -> Result<()>;
    /// Rotates the gradients of queries and keys back where they lie.
    fn rotate_backward(&mut self, shape: AttentionShape, d_heads: Heads) -> Result<()>;

    /// Causal softmax attention, grouped queries, scores scaled by [`AttentionShape::scale`], never held whole
    /// (Dao 2023, algorithm 1). With a window a position sees the last ones only.
    fn attention(&mut self, shape: AttentionShape, heads: Heads, attended: Attended) -> Result<()>;
    /// Writes the gradients of all three (Dao 2023, algorithm 2).
    fn attention_backward(
        &mut self,
        shape: AttentionShape,
        heads: Heads,
        attended: Attended,
        d_output: BufferSpan,
        d_heads: Heads,
    ) -> Result<()>;

    /// `output = silu(gate) x up` for `fused = gate | up` side by side in each of `tokens` rows (Shazeer 2020).
    fn swiglu(&mut self, tokens: usize, fused: BufferSpan, output: BufferSpan) -> Result<()>;
    /// Replaces `fused` by its gradient, and `d_output` by the output, computed again.
    fn swiglu_backward(&mut self, tokens: usize, fused: BufferSpan, d_output: BufferSpan) -> Result<()>;

    /// Elements of scratch that `loss` needs for `tokens` tokens and `vocabulary` classes.
    fn loss_scratch(&self, tokens: usize, vocabulary: usize) -> usize;
    /// Adds the negative log-likelihoods of the batch's targets, those of weight other than 0, under
    /// `softmax(hidden x head^T)` to the device's sum of losses, without z-loss and without weights.
    ///
    /// With `terms`, replaces `hidden` by its gradient, each token's times its target's weight, and adds to the head's;
    /// without, `hidden` is unspecified afterwards. Logits are never held whole. The host does not wait for the device.
    fn loss(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
        terms: Option<LossTerms>,
    ) -> Result<()>;
    /// The sum of losses in nats, which begins at 0 again. Waits for the device.
    fn take_loss(&mut self) -> Result<f64>;

    /// Negative log-likelihood of every next token of the batch, whatever its weight, `tokens` values.
    fn token_losses(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
    ) -> Result<Vec<f32>>;

    /// Sum of squares of all gradients.
    fn gradient_square_sum(&mut self) -> Result<f64>;
    /// One optimizer step over a range of the trainable parameters.
    fn adamw(&mut self, step: AdamW, over: Range<usize>) -> Result<()>;
}

/// Sum of the losses of the targets, those of weight other than 0.
fn counted(losses: &[f32], weights: &[f32]) -> f64 {
    let targets = losses.iter().zip(weights).filter(|&(_, &weight)| weight != 0.0);
    targets.map(|(&loss, _)| f64::from(loss)).sum()
}

impl AdamW {
    /// The factor of the gradients so that their norm is at most `clip` (PyTorch's `clip_grad_norm_`).
    pub fn clip(norm: f64, clip: Option<f64>) -> f32 {
        clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0)) as f32
    }
}

//! The operations by the project's own CUDA kernels (`trainer/kernels`) and cuBLASLt.
//!
//! Activations and a copy of the weights are bf16; masters, gradients, moments, statistics and losses f32. Products of
//! bf16 matrices are summed in f32 and rounded once, with the residual; gradients of weights are summed in f32 over all
//! micro-batches of a step. Norms read the f32 masters.
//!
//! Generic over a [`Launcher`]: a GPU's driver (feature `cuda`), or the emulator (feature `emulator`), which runs the
//! same sources on the CPU and checks every access.
//!
//! Determinism: no kernel adds atomically, and the number of parts that a sum is cut into does not depend on the device.
//!
//! The host waits for the device where it reads, the sum of losses and the gradient's norm once a step, and where it
//! writes, the tokens of each micro-batch. It starts 25 kernels and products a layer and micro-batch, about 840 for a model
//! of 32 layers; at 5 us each that takes 4 ms, far less than a micro-batch of 32,768 tokens computes, so that CUDA graphs
//! would save nothing.

mod attention;
mod batch;
mod buffers;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulator")]
mod emulated;
pub(crate) mod kernels;
// Its regions are places in device memory, which a safe caller from outside must not choose.
pub(crate) mod launcher;
mod layers;
mod linear;
mod loss;
#[cfg(feature = "cuda")]
mod lt;
mod memory;
mod optimizer;
#[cfg(feature = "emulator")]
mod products;
mod self_test;
mod sizes;
mod support;
#[cfg(test)]
mod tests;
mod weights;

#[cfg(feature = "cuda")]
pub use driver::Driver;
#[cfg(feature = "emulator")]
pub use emulated::{Emulator, EmulatorOptions};
pub use launcher::Launcher;
pub use loss::LOGITS_ROWS;
pub use memory::CudaOps;
pub use self_test::self_test;
pub use sizes::{STATISTIC_ELEMENTS, loss_scratch, workspace_bytes};
pub use support::unsupported;

use super::{
    AdamW, Adapter, AdapterGradient, Attended, AttentionShape, Buffer, BufferSpan, Distillation,
    DistillationOps, Heads, LossTerms, Ops, RmsNorm, Rounding, WeightCopy, WeightMatrix, WeightVector,
};
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use launcher::{BF16, DeviceMemory};
use std::ops::Range;
use thimble_runtime::format::RopeParameters;
use zerocopy::IntoBytes;

impl<L: Launcher> Ops for CudaOps<L> {
    fn device(&self) -> String {
        format!("{}, own kernels, bf16", self.launcher.device())
    }

    fn reserve(&mut self, elements: usize) -> Result<()> {
        self.grow_arena(elements * BF16)
    }

    fn activation_bytes(&self) -> usize {
        BF16
    }

    fn statistic_elements(&self) -> usize {
        STATISTIC_ELEMENTS
    }

    fn write(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        self.write_buffer(buffer, values)
    }

    fn read(&self, buffer: Buffer, values: &mut [f32]) -> Result<()> {
        self.read_buffer(buffer, values)
    }

    fn read_span(&self, span: BufferSpan, values: &mut [f32]) -> Result<()> {
        let mut bytes = vec![0; span.len * BF16];
        self.launcher.download(self.at(span), &mut bytes)?;
        for (value, &bits) in values.iter_mut().zip(bytes.as_chunks::<BF16>().0) {
            *value = half::bf16::from_le_bytes(bits).to_f32();
        }
        Ok(())
    }

    fn zero(&mut self, span: BufferSpan) -> Result<()> {
        self.launcher.zero(self.at(span))
    }

    fn zero_gradients(&mut self) -> Result<()> {
        self.launcher.zero(self.buffer(Buffer::Gradients).region())
    }

    fn load_batch(&mut self, batch: &TrainingBatch) -> Result<()> {
        let (layout, words) = batch::words(batch);
        self.set_batch(layout, &words)
    }

    fn set_target_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.launcher.upload(self.batch().weights, weights.as_bytes())
    }

    fn set_rotary(&mut self, rope: &RopeParameters, head_dim: usize, context: usize) -> Result<()> {
        self.replace_rotary(rope, head_dim, context)
    }

    fn embed(&mut self, table: WeightMatrix, output: BufferSpan) -> Result<()> {
        self.launch_embedding(table, output)
    }

    fn embed_backward(&mut self, table: WeightMatrix, d_output: BufferSpan) -> Result<()> {
        self.launch_embedding_backward(table, d_output)
    }

    fn rms_norm(&mut self, norm: RmsNorm, output: BufferSpan) -> Result<()> {
        self.launch_norm(norm, output)
    }

    fn rms_norm_backward(&mut self, norm: RmsNorm, d_output: BufferSpan, d_input: BufferSpan) -> Result<()> {
        self.launch_norm_backward(norm, d_output, d_input)
    }

    fn linear(
        &mut self,
        input: BufferSpan,
        weight: WeightMatrix,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()> {
        self.multiply_forward(input, weight, residual, output)
    }

    fn linear_input_gradient(
        &mut self,
        weight: WeightMatrix,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        self.multiply_input_gradient(weight, d_output, d_input)
    }

    fn linear_weight_gradient(
        &mut self,
        weight: WeightMatrix,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        self.multiply_weight_gradient(weight, input, d_output)
    }

    fn adapter(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        hidden: BufferSpan,
        output: BufferSpan,
    ) -> Result<()> {
        self.adapt(adapter, input, hidden, output)
    }

    fn adapter_input_gradient(
        &mut self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()> {
        self.adapter_to_input(adapter, gradient, d_input)
    }

    fn adapter_weight_gradient(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()> {
        self.adapter_to_weights(adapter, input, gradient)
    }

    fn add_bias(&mut self, _bias: WeightVector, _output: BufferSpan) -> Result<()> {
        Err(no_kernel("biases"))
    }

    fn add_bias_backward(&mut self, _bias: WeightVector, _d_output: BufferSpan) -> Result<()> {
        Err(no_kernel("biases"))
    }

    fn split_heads(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        fused: BufferSpan,
        heads: Heads,
    ) -> Result<()> {
        self.launch_split_heads(shape, rope, fused, heads)
    }

    fn split_heads_backward(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        d_heads: Heads,
        d_fused: BufferSpan,
    ) -> Result<()> {
        self.launch_split_heads_backward(shape, rope, d_heads, d_fused)
    }

    fn rotate(&mut self, _shape: AttentionShape, _heads: Heads) -> Result<()> {
        Err(no_kernel("norms of query and key heads"))
    }

    fn rotate_backward(&mut self, _shape: AttentionShape, _d_heads: Heads) -> Result<()> {
        Err(no_kernel("norms of query and key heads"))
    }

    fn attention(&mut self, shape: AttentionShape, heads: Heads, attended: Attended) -> Result<()> {
        self.launch_attention(shape, heads, attended)
    }

    fn attention_backward(
        &mut self,
        shape: AttentionShape,
        heads: Heads,
        attended: Attended,
        d_output: BufferSpan,
        d_heads: Heads,
    ) -> Result<()> {
        self.launch_attention_backward(shape, heads, attended, d_output, d_heads)
    }

    fn swiglu(&mut self, tokens: usize, fused: BufferSpan, output: BufferSpan) -> Result<()> {
        self.launch_swiglu(tokens, fused, output)
    }

    fn swiglu_backward(&mut self, tokens: usize, fused: BufferSpan, d_output: BufferSpan) -> Result<()> {
        self.launch_swiglu_backward(tokens, fused, d_output)
    }

    fn loss_scratch(&self, tokens: usize, vocabulary: usize) -> usize {
        loss::scratch_len(tokens, vocabulary)
    }

    fn loss(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
        terms: Option<LossTerms>,
    ) -> Result<()> {
        self.cross_entropy(hidden, head, scratch, terms)?;
        self.sum_losses()
    }

    fn take_loss(&mut self) -> Result<f64> {
        self.read_loss_sum()
    }

    fn token_losses(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
    ) -> Result<Vec<f32>> {
        self.cross_entropy(hidden, head, scratch, None)?;
        self.read_losses()
    }

    fn gradient_square_sum(&mut self) -> Result<f64> {
        self.square_sum()
    }

    fn adamw(&mut self, step: AdamW, over: Range<usize>) -> Result<()> {
        self.step(step, over)
    }
}

impl<L: Launcher> DistillationOps for CudaOps<L> {
    fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        self.replace_copy(copy, values)
    }

    fn round_weights(&mut self, round: &Rounding<'_>) -> Result<()> {
        self.round_masters(round)
    }

    fn select_weights(&mut self, copy: Option<WeightCopy>) -> Result<()> {
        self.copies.select(copy)
    }

    fn copy(&mut self, from: BufferSpan, to: BufferSpan) -> Result<()> {
        self.launcher.copy(self.at(from), self.at(to))
    }

    fn distillation_loss(
        &mut self,
        distillation: Distillation,
        scratch: BufferSpan,
        gradient: bool,
    ) -> Result<()> {
        self.divergence(distillation, scratch, gradient)?;
        self.sum_losses()
    }
}

/// The error where a model needs what [`unsupported`] says.
fn no_kernel(what: &str) -> Error {
    Error::Invalid(format!("the engine's own kernels know no {what}: run the model on candle's operations"))
}

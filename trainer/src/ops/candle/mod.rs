//! The operations through candle's tensors, on any of candle's devices: unfused kernels and cuBLAS on a GPU, and the
//! same code on the CPU, slowly, where it can be checked.
//!
//! Masters, gradients and moments are f32. In bf16 the activations and a copy of the weights are bf16; products of two
//! bf16 matrices are summed in f32 and rounded once, gradients of weights too before they are added to f32 (GEMMs that
//! write f32 come with own kernels). Within an operation everything else is f32: norms, rotations, softmax, attention.
//!
//! Candle's autograd has no part in this: no tensor here is a variable, so that nothing is recorded.
//!
//! Determinism: no operation here adds atomically. Row sums and column sums are trees or GEMMs of fixed shape, the
//! embedding's gradient is a tree (`embedding.rs`), `scatter_add` meets each element once. cuBLAS gives the same bits
//! for the same shapes on one stream of the same GPU and version, so a run resumed there continues bit for bit.
//!
//! The host waits for the device where it reads: the sum of losses and the gradient's norm, once a step.

mod adapter;
mod attention;
mod blocks;
mod copies;
mod distillation;
mod embedding;
mod layers;
mod loss;
mod optimizer;
mod tensors;

pub use blocks::Blocks;
pub use tensors::CandleOps;

use super::{
    AdamW, Adapter, AdapterGradient, Attended, AttentionShape, Buffer, BufferSpan, Heads, LossTerms, Ops,
    RmsNorm, WeightMatrix, WeightVector,
};
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use blocks::product;
use candle_core::{DType, DeviceLocation, Tensor};
use std::ops::Range;
use thimble_runtime::format::RopeParameters;

impl Ops for CandleOps {
    fn device(&self) -> String {
        let place = match self.device.location() {
            DeviceLocation::Cpu => "the CPU".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("GPU {gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
        };
        format!("candle on {place}, {}", self.dtype.as_str())
    }

    fn reserve(&mut self, elements: usize) -> Result<()> {
        if elements > self.arena.elem_count() {
            self.statistics.clear();
            // Free the old arena first.
            self.arena = Tensor::zeros(0, self.dtype, &self.device)?;
            self.arena = Tensor::zeros(elements, self.dtype, &self.device).map_err(|error| {
                let bytes = elements * self.dtype.size_in_bytes();
                let error = error.to_string();
                let why = error.lines().next().unwrap_or_default();
                Error::Invalid(format!(
                    "{bytes} bytes of the device's memory for activations are not available ({why}): use a smaller micro_batch"
                ))
            })?;
        }
        Ok(())
    }

    fn activation_bytes(&self) -> usize {
        self.dtype.size_in_bytes()
    }

    /// One: statistics lie beside the arena, at the place of their span.
    fn statistic_elements(&self) -> usize {
        1
    }

    fn write(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        let target = self.buffer(buffer);
        if values.len() > target.elem_count() {
            return Err(Error::Invalid(format!(
                "{} values for a buffer of {}",
                values.len(),
                target.elem_count()
            )));
        }
        optimizer::in_chunks(0..values.len(), |start, len| {
            target.slice_set(&Tensor::from_slice(&values[start..start + len], len, &self.device)?, 0, start)
        })?;
        if buffer == Buffer::Weights {
            self.refresh_compute_weights(0..values.len())?;
        }
        Ok(())
    }

    fn read(&self, buffer: Buffer, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.buffer(buffer).narrow(0, 0, values.len())?.to_vec1::<f32>()?);
        Ok(())
    }

    fn read_span(&self, span: BufferSpan, values: &mut [f32]) -> Result<()> {
        let found = match self.statistics.get(&span.start) {
            Some(statistic) if statistic.elem_count() == span.len => statistic.flatten_all()?,
            // Without a copy of its own candle would bring the whole arena to the host.
            _ => self.view(span, span.len)?.force_contiguous()?.to_dtype(DType::F32)?,
        };
        values.copy_from_slice(&found.to_vec1::<f32>()?);
        Ok(())
    }

    fn zero(&mut self, span: BufferSpan) -> Result<()> {
        Ok(self.view(span, span.len)?.zero_set()?)
    }

    fn zero_gradients(&mut self) -> Result<()> {
        Ok(self.gradients.zero_set()?)
    }

    fn load_batch(&mut self, batch: &TrainingBatch) -> Result<()> {
        let (sequences, context) = (batch.sequences, batch.context);
        let rows = || batch.ids.chunks_exact(context + 1);
        let targets: Vec<u32> = rows().flat_map(|row| &row[1..]).copied().collect();
        let loaded = &mut self.batch;
        loaded.inputs.clear();
        loaded.inputs.extend(rows().flat_map(|row| &row[..context]));
        loaded.document_start.clone_from(&batch.document_start);
        loaded.input_ids = Tensor::from_slice(&loaded.inputs, sequences * context, &self.device)?;
        loaded.targets = Tensor::from_vec(targets, (sequences * context, 1), &self.device)?;
        loaded.starts = Tensor::from_slice(&batch.document_start, (sequences, context), &self.device)?;
        if loaded.positions.elem_count() != context {
            loaded.positions = Tensor::arange(0, context as u32, &self.device)?;
        }
        self.statistics.clear();
        self.set_target_weights(&batch.weights)
    }

    fn set_target_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.batch.target_weights = Tensor::from_slice(weights, (weights.len(), 1), &self.device)?;
        Ok(())
    }

    fn set_rotary(&mut self, rope: &RopeParameters, head_dim: usize, context: usize) -> Result<()> {
        self.rotary = layers::Rotary::new(rope, head_dim, context, &self.device)?;
        Ok(())
    }

    fn embed(&mut self, table: WeightMatrix, output: BufferSpan) -> Result<()> {
        Ok(self.set(output, &self.matrix(table)?.index_select(&self.batch.input_ids, 0)?)?)
    }

    fn embed_backward(&mut self, table: WeightMatrix, d_output: BufferSpan) -> Result<()> {
        if !self.trains(table.start) {
            return Ok(());
        }
        let rows = self.rows(d_output, table.columns)?;
        Ok(self.add_gradient(table.start, &embedding::row_sums(&self.batch.inputs, rows, table.rows)?)?)
    }

    fn rms_norm(&mut self, norm: RmsNorm, output: BufferSpan) -> Result<()> {
        let inverse = layers::inverse_rms(&self.rows(norm.input, norm.weight.len)?, self.norm_epsilon)?;
        self.statistics.insert(norm.inverse_rms.start, inverse);
        Ok(self.set(output, &self.norm(norm)?.forward()?)?)
    }

    fn rms_norm_backward(&mut self, norm: RmsNorm, d_output: BufferSpan, d_input: BufferSpan) -> Result<()> {
        let columns = norm.weight.len;
        let tensors = self.norm(norm)?;
        let (dx, d_weight) = tensors.backward(&self.rows(d_output, columns)?)?;
        if self.trains(norm.weight.start) {
            self.add_gradient(norm.weight.start, &d_weight)?;
        }
        self.set(d_input, &(self.rows(d_input, columns)? + dx)?)?;
        Ok(self.set(d_output, &tensors.forward()?)?)
    }

    fn linear(
        &mut self,
        input: BufferSpan,
        weight: WeightMatrix,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()> {
        let x = self.view(input, (input.len / weight.columns, weight.columns))?;
        let mut y = product(&x, &self.matrix(weight)?.t()?)?;
        if let Some(residual) = residual {
            y = (self.view(residual, y.shape())? + y)?;
        }
        Ok(self.set(output, &y)?)
    }

    fn linear_input_gradient(
        &mut self,
        weight: WeightMatrix,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        let dy = self.view(d_output, (d_output.len / weight.rows, weight.rows))?;
        Ok(self.set(d_input, &product(&dy, &self.matrix(weight)?)?)?)
    }

    fn linear_weight_gradient(
        &mut self,
        weight: WeightMatrix,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        if !self.trains(weight.start) {
            return Ok(());
        }
        let x = self.view(input, (input.len / weight.columns, weight.columns))?;
        let dy = self.view(d_output, (d_output.len / weight.rows, weight.rows))?;
        Ok(self.add_gradient(weight.start, &product(&dy.t()?, &x)?)?)
    }

    fn adapter(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        hidden: BufferSpan,
        output: BufferSpan,
    ) -> Result<()> {
        Ok(self.adapter_forward(adapter, input, [hidden, output])?)
    }

    fn adapter_input_gradient(
        &mut self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()> {
        Ok(self.adapter_to_input(adapter, gradient, d_input)?)
    }

    fn adapter_weight_gradient(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()> {
        Ok(self.adapter_to_weights(adapter, input, gradient)?)
    }

    fn add_bias(&mut self, bias: WeightVector, output: BufferSpan) -> Result<()> {
        Ok(self.set(output, &self.rows(output, bias.len)?.broadcast_add(&self.vector(bias)?)?)?)
    }

    fn add_bias_backward(&mut self, bias: WeightVector, d_output: BufferSpan) -> Result<()> {
        if !self.trains(bias.start) {
            return Ok(());
        }
        let rows = self.rows(d_output, bias.len)?;
        let sums = Tensor::ones((1, rows.dim(0)?), DType::F32, &self.device)?.matmul(&rows)?;
        Ok(self.add_gradient(bias.start, &sums)?)
    }

    fn split_heads(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        fused: BufferSpan,
        heads: Heads,
    ) -> Result<()> {
        let all = shape.heads + 2 * shape.kv_heads;
        let fused = self.view(fused, (shape.sequences, shape.context, all, shape.head_dim))?;
        let [query, key, value] = layers::split(rope.then_some(&self.rotary), shape, &fused)?;
        self.set(heads.query, &query)?;
        self.set(heads.key, &key)?;
        Ok(self.set(heads.value, &value)?)
    }

    fn split_heads_backward(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        d_heads: Heads,
        d_fused: BufferSpan,
    ) -> Result<()> {
        let joined = layers::join(rope.then_some(&self.rotary), self.heads(shape, d_heads)?)?;
        Ok(self.set(d_fused, &joined)?)
    }

    fn rotate(&mut self, shape: AttentionShape, heads: Heads) -> Result<()> {
        Ok(self.turn(shape, heads, false)?)
    }

    fn rotate_backward(&mut self, shape: AttentionShape, d_heads: Heads) -> Result<()> {
        Ok(self.turn(shape, d_heads, true)?)
    }

    fn attention(&mut self, shape: AttentionShape, heads: Heads, attended: Attended) -> Result<()> {
        let output =
            self.view(attended.output, (shape.sequences, shape.context, shape.heads * shape.head_dim))?;
        let log_sum = self.attention_pass(shape).forward(self.heads(shape, heads)?, &output)?;
        self.statistics.insert(attended.log_sum.start, log_sum);
        Ok(())
    }

    fn attention_backward(
        &mut self,
        shape: AttentionShape,
        heads: Heads,
        attended: Attended,
        d_output: BufferSpan,
        d_heads: Heads,
    ) -> Result<()> {
        let by_token = (shape.sequences, shape.context, shape.heads, shape.head_dim);
        let attended = attention::BackwardInput {
            output: self.view(attended.output, by_token)?,
            d_output: self.view(d_output, by_token)?,
            log_sum: self.statistic(attended.log_sum)?.clone(),
        };
        let (heads, d_heads) = (self.heads(shape, heads)?, self.heads(shape, d_heads)?);
        Ok(self.attention_pass(shape).backward(heads, &attended, d_heads)?)
    }

    fn swiglu(&mut self, tokens: usize, fused: BufferSpan, output: BufferSpan) -> Result<()> {
        Ok(self.set(output, &layers::swiglu(&self.rows(fused, fused.len / tokens)?)?)?)
    }

    fn swiglu_backward(&mut self, tokens: usize, fused: BufferSpan, d_output: BufferSpan) -> Result<()> {
        let dy = self.rows(d_output, d_output.len / tokens)?;
        let (d_fused, output) = layers::swiglu_backward(&self.rows(fused, fused.len / tokens)?, &dy)?;
        self.set(fused, &d_fused)?;
        Ok(self.set(d_output, &output)?)
    }

    /// None: candle allocates what a chunk of tokens needs, see [`Blocks::loss_tokens`].
    fn loss_scratch(&self, _tokens: usize, _vocabulary: usize) -> usize {
        0
    }

    fn loss(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        _scratch: BufferSpan,
        terms: Option<LossTerms>,
    ) -> Result<()> {
        let losses = self.losses(hidden, head, terms)?;
        Ok(self.add_losses(&losses)?)
    }

    fn take_loss(&mut self) -> Result<f64> {
        let sum = self.loss_sum.to_scalar()?;
        self.loss_sum = self.loss_sum.zeros_like()?;
        Ok(sum)
    }

    fn token_losses(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        _scratch: BufferSpan,
    ) -> Result<Vec<f32>> {
        Ok(self.losses(hidden, head, None)?.to_vec1()?)
    }

    fn gradient_square_sum(&mut self) -> Result<f64> {
        Ok(optimizer::square_sum(&self.gradients)?)
    }

    fn adamw(&mut self, step: AdamW, over: Range<usize>) -> Result<()> {
        let state = optimizer::FlatBuffers {
            weights: &self.weights,
            gradients: &self.gradients,
            first: &self.first_moment,
            second: &self.second_moment,
        };
        state.adamw(&step, over.clone())?;
        Ok(self.refresh_compute_weights(over)?)
    }
}

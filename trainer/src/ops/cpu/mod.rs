//! The operations in f32 on the CPU's threads.
//!
//! Work is cut into tasks whose size never depends on the number of threads, and every sum has a fixed order: the
//! result is the same, bit for bit, on any number of threads.

mod adapter;
mod arena;
mod attention;
mod copies;
mod distillation;
mod divergence;
mod gemm;
mod heads;
mod linear;
mod loss;
mod math;
mod memory;
mod optimizer;
mod rows;
mod simd;
mod threads;

#[cfg(feature = "emulator")]
pub(super) use gemm::{MatrixView, WriteMode, matmul};
pub use memory::CpuOps;

use super::{
    AdamW, Adapter, AdapterGradient, Attended, AttentionShape, Buffer, BufferSpan, Heads, LossTerms, Ops,
    RmsNorm, WeightMatrix, WeightVector,
};
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use arena::spans;
use rayon::prelude::*;
use thimble_runtime::format::RopeParameters;

/// Logits held at a time, in bytes, and tokens that they are for at least.
const LOGITS_BYTES: usize = 32 << 20;
const LOGITS_ROWS: usize = 512;

impl Ops for CpuOps {
    fn device(&self) -> String {
        format!("CPU with {}", self.threads.simd.name())
    }

    fn reserve(&mut self, elements: usize) -> Result<()> {
        if elements > self.arena.len() {
            self.arena = Vec::new();
            self.arena.try_reserve_exact(elements).map_err(|_| {
                Error::Invalid(format!(
                    "{} bytes of memory for activations are not available: use a smaller micro_batch",
                    elements * 4
                ))
            })?;
            self.arena.resize(elements, 0.0);
        }
        Ok(())
    }

    fn activation_bytes(&self) -> usize {
        size_of::<f32>()
    }

    fn statistic_elements(&self) -> usize {
        1
    }

    fn write(&mut self, buffer: Buffer, values: &[f32]) -> Result<()> {
        self.buffer_mut(buffer)[..values.len()].copy_from_slice(values);
        Ok(())
    }

    fn read(&self, buffer: Buffer, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.buffer(buffer)[..values.len()]);
        Ok(())
    }

    fn read_span(&self, span: BufferSpan, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.arena[span.range()]);
        Ok(())
    }

    fn zero(&mut self, span: BufferSpan) -> Result<()> {
        self.arena[span.range()].fill(0.0);
        Ok(())
    }

    fn zero_gradients(&mut self) -> Result<()> {
        let gradients = &mut self.gradients;
        self.threads.run(|_| gradients.par_chunks_mut(1 << 16).for_each(|part| part.fill(0.0)));
        Ok(())
    }

    fn load_batch(&mut self, batch: &TrainingBatch) -> Result<()> {
        let rows = || batch.ids.chunks_exact(batch.context + 1);
        self.inputs.clear();
        self.inputs.extend(rows().flat_map(|row| &row[..batch.context]));
        self.targets.clear();
        self.targets.extend(rows().flat_map(|row| &row[1..]));
        self.document_start.clone_from(&batch.document_start);
        self.set_target_weights(&batch.weights)
    }

    fn set_target_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.target_weights.clear();
        self.target_weights.extend(weights);
        Ok(())
    }

    fn set_rotary(&mut self, rope: &RopeParameters, head_dim: usize, context: usize) -> Result<()> {
        self.rotary = heads::Rotary::new(rope, head_dim, context);
        Ok(())
    }

    fn embed(&mut self, table: WeightMatrix, output: BufferSpan) -> Result<()> {
        rows::embed(
            &self.threads,
            &self.copies.or(&self.weights)[table.range()],
            &self.inputs,
            &mut self.arena[output.range()],
        );
        Ok(())
    }

    fn embed_backward(&mut self, table: WeightMatrix, d_output: BufferSpan) -> Result<()> {
        if let Some(d_table) = self.gradients.get_mut(table.range()) {
            rows::embed_backward(&self.threads, d_table, &self.inputs, &self.arena[d_output.range()]);
        }
        Ok(())
    }

    fn rms_norm(&mut self, norm: RmsNorm, output: BufferSpan) -> Result<()> {
        let [input, inverse_rms, output] = spans(&mut self.arena, [norm.input, norm.inverse_rms, output])?;
        let weight = &self.copies.or(&self.weights)[norm.weight.range()];
        rows::rms_norm(&self.threads, self.norm_epsilon, input, weight, inverse_rms, output);
        Ok(())
    }

    fn rms_norm_backward(&mut self, norm: RmsNorm, d_output: BufferSpan, d_input: BufferSpan) -> Result<()> {
        let [input, inverse_rms, d_out, d_input] =
            spans(&mut self.arena, [norm.input, norm.inverse_rms, d_output, d_input])?;
        let weight = &self.copies.or(&self.weights)[norm.weight.range()];
        let d_weight = self.gradients.get_mut(norm.weight.range());
        let norm = rows::NormGradient { input, weight, inverse_rms };
        rows::rms_norm_backward(&self.threads, &norm, [d_out, d_input], d_weight, &mut self.partial);
        Ok(())
    }

    fn linear(
        &mut self,
        input: BufferSpan,
        weight: WeightMatrix,
        residual: Option<BufferSpan>,
        output: BufferSpan,
    ) -> Result<()> {
        let weights = linear::Weights {
            values: &self.copies.or(&self.weights)[weight.range()],
            inputs: weight.columns,
        };
        let (residual, [input, output]) = match residual {
            None => (None, spans(&mut self.arena, [input, output])?),
            Some(residual) => {
                let [input, output, residual] = spans(&mut self.arena, [input, output, residual])?;
                (Some(&*residual), [input, output])
            }
        };
        linear::forward(&self.threads, weights, input, residual, output);
        Ok(())
    }

    fn linear_input_gradient(
        &mut self,
        weight: WeightMatrix,
        d_output: BufferSpan,
        d_input: BufferSpan,
    ) -> Result<()> {
        let weights = linear::Weights {
            values: &self.copies.or(&self.weights)[weight.range()],
            inputs: weight.columns,
        };
        let [d_output, d_input] = spans(&mut self.arena, [d_output, d_input])?;
        linear::input_gradient(&self.threads, weights, d_output, d_input);
        Ok(())
    }

    fn linear_weight_gradient(
        &mut self,
        weight: WeightMatrix,
        input: BufferSpan,
        d_output: BufferSpan,
    ) -> Result<()> {
        if let Some(d_weights) = self.gradients.get_mut(weight.range()) {
            let [input, d_output] = spans(&mut self.arena, [input, d_output])?;
            linear::weight_gradient(&self.threads, weight.columns, [input, d_output], d_weights);
        }
        Ok(())
    }

    fn adapter(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        hidden: BufferSpan,
        output: BufferSpan,
    ) -> Result<()> {
        let [input, hidden, output] = spans(&mut self.arena, [input, hidden, output])?;
        adapter::forward(&self.threads, (adapter, self.copies.or(&self.weights)), input, hidden, output);
        Ok(())
    }

    fn adapter_input_gradient(
        &mut self,
        adapter: &Adapter,
        gradient: AdapterGradient,
        d_input: BufferSpan,
    ) -> Result<()> {
        let [d_output, d_hidden, d_input] =
            spans(&mut self.arena, [gradient.d_output, gradient.d_hidden, d_input])?;
        let weights = self.copies.or(&self.weights);
        adapter::input_gradient(&self.threads, (adapter, weights), d_output, d_hidden, d_input);
        Ok(())
    }

    fn adapter_weight_gradient(
        &mut self,
        adapter: &Adapter,
        input: BufferSpan,
        gradient: AdapterGradient,
    ) -> Result<()> {
        let AdapterGradient { hidden, d_output, d_hidden } = gradient;
        let [input, hidden, d_output, d_hidden] =
            spans(&mut self.arena, [input, hidden, d_output, d_hidden])?;
        let pass = adapter::WeightGradient { input, hidden, d_output, d_hidden };
        adapter::weight_gradient(&self.threads, adapter, &mut self.gradients, pass);
        Ok(())
    }

    fn add_bias(&mut self, bias: WeightVector, output: BufferSpan) -> Result<()> {
        rows::add_bias(
            &self.threads,
            &self.copies.or(&self.weights)[bias.range()],
            &mut self.arena[output.range()],
        );
        Ok(())
    }

    fn add_bias_backward(&mut self, bias: WeightVector, d_output: BufferSpan) -> Result<()> {
        if let Some(d_bias) = self.gradients.get_mut(bias.range()) {
            let d_output = &self.arena[d_output.range()];
            rows::add_bias_backward(&self.threads, d_output, d_bias, &mut self.partial);
        }
        Ok(())
    }

    fn split_heads(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        fused: BufferSpan,
        heads: Heads,
    ) -> Result<()> {
        let [fused, query, key, value] =
            spans(&mut self.arena, [fused, heads.query, heads.key, heads.value])?;
        let rotary = rope.then_some(&self.rotary);
        heads::split(&self.threads, rotary, shape, fused, [query, key, value]);
        Ok(())
    }

    fn split_heads_backward(
        &mut self,
        shape: AttentionShape,
        rope: bool,
        d_heads: Heads,
        d_fused: BufferSpan,
    ) -> Result<()> {
        let [d_fused, query, key, value] =
            spans(&mut self.arena, [d_fused, d_heads.query, d_heads.key, d_heads.value])?;
        let rotary = rope.then_some(&self.rotary);
        heads::join(&self.threads, rotary, shape, [query, key, value], d_fused);
        Ok(())
    }

    fn rotate(&mut self, shape: AttentionShape, heads: Heads) -> Result<()> {
        let heads = spans(&mut self.arena, [heads.query, heads.key])?;
        heads::rotate(&self.threads, &self.rotary, shape, false, heads);
        Ok(())
    }

    fn rotate_backward(&mut self, shape: AttentionShape, d_heads: Heads) -> Result<()> {
        let d_heads = spans(&mut self.arena, [d_heads.query, d_heads.key])?;
        heads::rotate(&self.threads, &self.rotary, shape, true, d_heads);
        Ok(())
    }

    fn attention(&mut self, shape: AttentionShape, heads: Heads, attended: Attended) -> Result<()> {
        let [query, key, value, output, log_sum] =
            spans(&mut self.arena, [heads.query, heads.key, heads.value, attended.output, attended.log_sum])?;
        let input =
            attention::AttentionInput { shape, query, key, value, document_start: &self.document_start };
        attention::forward(&self.threads, input, output, log_sum);
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
        let all = [
            heads.query,
            heads.key,
            heads.value,
            attended.output,
            attended.log_sum,
            d_output,
            d_heads.query,
            d_heads.key,
            d_heads.value,
        ];
        let [query, key, value, out, log_sum, d_out, d_query, d_key, d_value] = spans(&mut self.arena, all)?;
        let input =
            attention::AttentionInput { shape, query, key, value, document_start: &self.document_start };
        let attended = attention::BackwardInput { out, log_sum, d_out };
        attention::backward(&self.threads, input, attended, [d_query, d_key, d_value]);
        Ok(())
    }

    fn swiglu(&mut self, tokens: usize, fused: BufferSpan, output: BufferSpan) -> Result<()> {
        let [fused, output] = spans(&mut self.arena, [fused, output])?;
        rows::swiglu(&self.threads, output.len() / tokens, fused, output);
        Ok(())
    }

    fn swiglu_backward(&mut self, tokens: usize, fused: BufferSpan, d_output: BufferSpan) -> Result<()> {
        let [fused, d_output] = spans(&mut self.arena, [fused, d_output])?;
        rows::swiglu_backward(&self.threads, d_output.len() / tokens, fused, d_output);
        Ok(())
    }

    fn loss_scratch(&self, tokens: usize, vocabulary: usize) -> usize {
        let rows = (LOGITS_BYTES / size_of::<f32>() / vocabulary).max(LOGITS_ROWS);
        // Two tokens at least: one of a student and one of its teacher.
        rows.next_multiple_of(loss::ROWS).min(tokens).max(2) * vocabulary
    }

    fn loss(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
        terms: Option<LossTerms>,
    ) -> Result<()> {
        let [hidden, logits] = spans(&mut self.arena, [hidden, scratch])?;
        self.losses.resize(self.targets.len(), 0.0);
        let gradient = terms.map(|terms| (terms, self.gradients.get_mut(head.range())));
        let weights = &self.copies.or(&self.weights)[head.range()];
        let targets = loss::Targets { ids: &self.targets, weights: &self.target_weights };
        let losses = &mut self.losses;
        loss::weighed_cross_entropy(&self.threads, weights, targets, losses, hidden, logits, gradient);
        self.loss_sum += super::counted(&self.losses, &self.target_weights);
        Ok(())
    }

    fn take_loss(&mut self) -> Result<f64> {
        Ok(std::mem::take(&mut self.loss_sum))
    }

    fn token_losses(
        &mut self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
    ) -> Result<Vec<f32>> {
        let [hidden, logits] = spans(&mut self.arena, [hidden, scratch])?;
        self.losses.resize(self.targets.len(), 0.0);
        let weights = &self.copies.or(&self.weights)[head.range()];
        let targets = loss::Targets { ids: &self.targets, weights: &self.target_weights };
        loss::cross_entropy(&self.threads, weights, targets, &mut self.losses, hidden, logits, None);
        Ok(self.losses.clone())
    }

    fn gradient_square_sum(&mut self) -> Result<f64> {
        Ok(optimizer::square_sum(&self.threads, &self.gradients, &mut self.partial_sums))
    }

    fn adamw(&mut self, step: AdamW, over: std::ops::Range<usize>) -> Result<()> {
        let step = AdamW { decayed: step.decayed.saturating_sub(over.start), ..step };
        let state = optimizer::FlatBuffers {
            weights: &mut self.weights[over.clone()],
            gradients: &self.gradients[over.clone()],
            first: &mut self.first_moment[over.clone()],
            second: &mut self.second_moment[over],
        };
        optimizer::adamw(&self.threads, &step, state);
        Ok(())
    }
}

//! The tensors on the device, and views of them by span.

use super::super::{
    AttentionShape, Buffer, BufferLengths, BufferSpan, Heads, LossTerms, RmsNorm, WeightMatrix, WeightVector,
};
use super::blocks::{Blocks, product};
use super::copies::Copies;
use super::{attention, layers, loss, optimizer};
use crate::error::{Error, Result};
use crate::recipe::Precision;
use candle_core::{DType, Device, Result as Computed, Shape, Tensor};
use std::collections::HashMap;
use std::ops::Range;
use thimble_runtime::format::RopeParameters;

/// The operations on one of candle's devices.
pub struct CandleOps {
    pub(super) device: Device,
    pub(super) dtype: DType,
    pub(super) norm_epsilon: f64,
    pub(super) blocks: Blocks,
    pub(super) weights: Tensor,
    pub(super) gradients: Tensor,
    pub(super) first_moment: Tensor,
    pub(super) second_moment: Tensor,
    /// The weights in the activations' type; in f32 the same storage as `weights`.
    pub(super) compute_weights: Tensor,
    pub(super) copies: Copies,
    pub(super) arena: Tensor,
    /// Values that stay f32, each norm's `inverse_rms` and attention's `log_sum`, beside the arena by the first element
    /// of its span: a bf16 arena cannot hold it, and a second arena of that length would take twice the memory of the
    /// first.
    pub(super) statistics: HashMap<usize, Tensor>,
    pub(super) batch: LoadedBatch,
    pub(super) rotary: layers::Rotary,
    /// f64, one element.
    pub(super) loss_sum: Tensor,
}

/// The batch on the device, and what the host needs of it.
pub(super) struct LoadedBatch {
    pub(super) inputs: Vec<u32>,
    pub(super) document_start: Vec<u32>,
    /// `tokens`.
    pub(super) input_ids: Tensor,
    /// `tokens x 1`.
    pub(super) targets: Tensor,
    /// `tokens x 1`, each target's.
    pub(super) target_weights: Tensor,
    /// `sequences x context`.
    pub(super) starts: Tensor,
    /// 0, 1, ... `context`.
    pub(super) positions: Tensor,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        // candle appends a backtrace where one is asked for.
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        let advice = if text.contains("OUT_OF_MEMORY") || text.contains("out of memory") {
            ": use a smaller micro_batch, or activation checkpointing"
        } else {
            ""
        };
        Error::Invalid(format!("the device failed: {text}{advice}"))
    }
}

/// A matrix of these weights.
pub(super) fn matrix_in(weights: &Tensor, matrix: WeightMatrix) -> Computed<Tensor> {
    let elements = matrix.rows * matrix.columns;
    weights.narrow(0, matrix.start, elements)?.reshape((matrix.rows, matrix.columns))
}

impl CandleOps {
    /// Memory for a model's parameters on a device.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn new(
        device: Device,
        precision: Precision,
        lengths: impl Into<BufferLengths>,
        norm_epsilon: f32,
    ) -> Result<CandleOps> {
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        let lengths = lengths.into();
        let zeros = || Tensor::zeros(lengths.gradients, DType::F32, &device);
        let weights = Tensor::zeros(lengths.weights, DType::F32, &device)?;
        let none = Tensor::zeros(0, DType::U32, &device)?;
        Ok(CandleOps {
            dtype,
            norm_epsilon: f64::from(norm_epsilon),
            blocks: Blocks::default(),
            compute_weights: match dtype {
                DType::F32 => weights.clone(),
                _ => Tensor::zeros(lengths.weights, dtype, &device)?,
            },
            weights,
            copies: Copies::default(),
            gradients: zeros()?,
            first_moment: zeros()?,
            second_moment: zeros()?,
            arena: Tensor::zeros(0, dtype, &device)?,
            statistics: HashMap::new(),
            batch: LoadedBatch {
                inputs: Vec::new(),
                document_start: Vec::new(),
                input_ids: none.clone(),
                targets: none.clone(),
                target_weights: none.clone(),
                starts: none.clone(),
                positions: none.clone(),
            },
            rotary: layers::Rotary::new(&RopeParameters::new(1e4), 2, 1, &device)?,
            loss_sum: Tensor::zeros((), DType::F64, &device)?,
            device,
        })
    }

    /// The same with other blocks.
    pub fn with_blocks(self, blocks: Blocks) -> CandleOps {
        CandleOps { blocks, ..self }
    }

    pub(super) fn buffer(&self, buffer: Buffer) -> &Tensor {
        match buffer {
            Buffer::Weights => &self.weights,
            Buffer::Gradients => &self.gradients,
            Buffer::FirstMoment => &self.first_moment,
            Buffer::SecondMoment => &self.second_moment,
        }
    }

    /// Activations where they lie.
    pub(super) fn view(&self, span: BufferSpan, shape: impl Into<Shape>) -> Computed<Tensor> {
        self.arena.narrow(0, span.start, span.len)?.reshape(shape.into())
    }

    /// Activations as f32 rows of `columns`.
    pub(super) fn rows(&self, span: BufferSpan, columns: usize) -> Computed<Tensor> {
        self.view(span, (span.len / columns, columns))?.to_dtype(DType::F32)
    }

    /// Writes a whole span; the value must not lie in the arena itself.
    pub(super) fn set(&self, span: BufferSpan, value: &Tensor) -> Computed<()> {
        if value.elem_count() != span.len {
            candle_core::bail!("{} values for an activation of {}", value.elem_count(), span.len);
        }
        self.arena.slice_set(&value.flatten_all()?.to_dtype(self.dtype)?.contiguous()?, 0, span.start)
    }

    pub(super) fn statistic(&self, span: BufferSpan) -> Computed<&Tensor> {
        let found = self.statistics.get(&span.start);
        found
            .ok_or_else(|| candle_core::Error::Msg("a gradient was asked for before the forward pass".into()))
    }

    pub(super) fn matrix(&self, matrix: WeightMatrix) -> Computed<Tensor> {
        let weights = self.copies.selected().unwrap_or(&self.compute_weights);
        matrix_in(weights, matrix)
    }

    /// In f32: vectors are small, so bf16 gains nothing. A copy's are of the activations' type all the same.
    pub(super) fn vector(&self, vector: WeightVector) -> Computed<Tensor> {
        let weights = self.copies.selected().unwrap_or(&self.weights);
        weights.narrow(0, vector.start, vector.len)?.to_dtype(DType::F32)
    }

    pub(super) fn norm(&self, norm: RmsNorm) -> Computed<layers::Norm> {
        Ok(layers::Norm {
            input: self.rows(norm.input, norm.weight.len)?,
            weight: self.vector(norm.weight)?,
            inverse_rms: self.statistic(norm.inverse_rms)?.clone(),
        })
    }

    /// Adds the losses of the targets, those of weight other than 0, to the sum.
    pub(super) fn add_losses(&mut self, losses: &Tensor) -> Computed<()> {
        let losses = losses.to_dtype(DType::F64)?;
        let counts = self.batch.target_weights.flatten_all()?.ne(0f32)?;
        let counted = counts.where_cond(&losses, &losses.zeros_like()?)?;
        self.loss_sum = (&self.loss_sum + counted.sum_all()?)?;
        Ok(())
    }

    /// Whether the parameter at that place in the flat buffers is trainable.
    pub(super) fn trains(&self, start: usize) -> bool {
        start < self.gradients.elem_count()
    }

    pub(super) fn add_gradient(&self, start: usize, value: &Tensor) -> Computed<()> {
        let value = value.flatten_all()?.to_dtype(DType::F32)?;
        let sum = (self.gradients.narrow(0, start, value.elem_count())? + value)?;
        self.gradients.slice_set(&sum, 0, start)
    }

    /// Copies masters in the activations' type.
    pub(super) fn refresh_compute_weights(&self, range: Range<usize>) -> Computed<()> {
        if self.dtype == DType::F32 {
            return Ok(());
        }
        optimizer::in_chunks(range, |start, len| {
            let copy = self.weights.narrow(0, start, len)?.to_dtype(self.dtype)?;
            self.compute_weights.slice_set(&copy, 0, start)
        })
    }

    pub(super) fn attention_pass(&self, shape: AttentionShape) -> attention::AttentionPass<'_> {
        attention::AttentionPass {
            shape,
            blocks: self.blocks,
            positions: &self.batch.positions,
            starts: shape.document_mask.then_some((&self.batch.document_start[..], &self.batch.starts)),
        }
    }

    /// Heads where they lie, `sequences x heads x context x head_dim`.
    pub(super) fn heads(&self, shape: AttentionShape, heads: Heads) -> Computed<[Tensor; 3]> {
        let view = |span, count| self.view(span, (shape.sequences, count, shape.context, shape.head_dim));
        Ok([
            view(heads.query, shape.heads)?,
            view(heads.key, shape.kv_heads)?,
            view(heads.value, shape.kv_heads)?,
        ])
    }

    /// Turns queries and keys where they lie, forward or back.
    pub(super) fn turn(&self, shape: AttentionShape, heads: Heads, back: bool) -> Computed<()> {
        let [query, key, _] = self.heads(shape, heads)?;
        self.set(heads.query, &self.rotary.turn(&query, back)?)?;
        self.set(heads.key, &self.rotary.turn(&key, back)?)
    }

    /// Negative log-likelihood of each target; see [`loss`](super::super::Ops::loss).
    pub(super) fn losses(
        &self,
        hidden: BufferSpan,
        head: WeightMatrix,
        terms: Option<LossTerms>,
    ) -> Computed<Tensor> {
        let tokens = hidden.len / head.columns;
        let weights = self.matrix(head)?;
        let mut losses = Vec::new();
        for first in (0..tokens).step_by(self.blocks.loss_tokens) {
            let count = self.blocks.loss_tokens.min(tokens - first);
            let part = BufferSpan { start: hidden.start + first * head.columns, len: count * head.columns };
            let x = self.view(part, (count, head.columns))?;
            let logits = product(&x, &weights.t()?)?;
            let targets = self.batch.targets.narrow(0, first, count)?;
            let weights_of_targets = self.batch.target_weights.narrow(0, first, count)?;
            let (loss, d_logits) = loss::cross_entropy(logits, (&targets, &weights_of_targets), terms)?;
            losses.push(loss);
            if let Some(d_logits) = d_logits {
                let d_logits = d_logits.to_dtype(self.dtype)?;
                if self.trains(head.start) {
                    self.add_gradient(head.start, &product(&d_logits.t()?, &x)?)?;
                }
                self.set(part, &product(&d_logits, &weights)?)?;
            }
        }
        Tensor::cat(&losses, 0)
    }
}

//! The operations of distillation.

use super::super::{BufferSpan, Distillation, DistillationOps, Rounding, WeightCopy};
use super::CandleOps;
use super::blocks::product;
use super::copies::missing;
use super::tensors::matrix_in;
use crate::error::Result;
use candle_core::{DType, Result as Computed, Tensor};

/// Each token's KL(teacher || student) for logits of `tokens x classes`, and the gradient of the student's times
/// `weights`, `tokens x 1`.
fn divergence(student: &Tensor, teacher: &Tensor, weights: &Tensor) -> Computed<(Tensor, Tensor)> {
    let softmax = |logits: &Tensor| -> Computed<(Tensor, Tensor)> {
        let logits = logits.to_dtype(DType::F32)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?)?;
        let log = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)?;
        Ok((log.exp()?, log))
    };
    let (of_student, student) = softmax(student)?;
    let (of_teacher, teacher) = softmax(teacher)?;
    let losses = (&of_teacher * (teacher - student)?)?.sum(1)?;
    Ok((losses, (of_student - of_teacher)?.broadcast_mul(weights)?))
}

impl CandleOps {
    fn divergences(&self, operands: Distillation, teacher_head: &Tensor, gradient: bool) -> Computed<Tensor> {
        let Distillation { student, teacher, head } = operands;
        let (tokens, width) = (student.len / head.columns, head.columns);
        let weights = self.matrix(head)?;
        let mut losses = Vec::new();
        for first in (0..tokens).step_by(self.blocks.loss_tokens) {
            let count = self.blocks.loss_tokens.min(tokens - first);
            let part =
                |span: BufferSpan| BufferSpan { start: span.start + first * width, len: count * width };
            let x = self.view(part(student), (count, width))?;
            let of_student = product(&x, &weights.t()?)?;
            let of_teacher = product(&self.view(part(teacher), (count, width))?, &teacher_head.t()?)?;
            let target_weights = self.batch.target_weights.narrow(0, first, count)?;
            let (loss, d_logits) = divergence(&of_student, &of_teacher, &target_weights)?;
            losses.push(loss);
            if gradient {
                let d_logits = d_logits.to_dtype(self.dtype)?;
                if self.trains(head.start) {
                    self.add_gradient(head.start, &product(&d_logits.t()?, &x)?)?;
                }
                self.set(part(student), &product(&d_logits, &weights)?)?;
            }
        }
        Tensor::cat(&losses, 0)
    }
}

impl DistillationOps for CandleOps {
    fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        let values = Tensor::from_slice(values, values.len(), &self.device)?.to_dtype(self.dtype)?;
        match copy {
            WeightCopy::Rounded => self.copies.rounded = Some(values),
            WeightCopy::Teacher => self.copies.teacher = Some(values),
        }
        Ok(())
    }

    /// On the host, where the converter's rounding runs.
    fn round_weights(&mut self, round: &Rounding<'_>) -> Result<()> {
        let masters = self.weights.to_vec1::<f32>()?;
        let mut rounded = vec![0.0; masters.len()];
        round(&masters, &mut rounded);
        self.write_copy(WeightCopy::Rounded, &rounded)
    }

    fn select_weights(&mut self, copy: Option<WeightCopy>) -> Result<()> {
        if let Some(copy) = copy.filter(|&copy| self.copies.get(copy).is_none()) {
            return Err(missing(copy));
        }
        self.copies.selected = copy;
        Ok(())
    }

    fn copy(&mut self, from: BufferSpan, to: BufferSpan) -> Result<()> {
        Ok(self.set(to, &self.view(from, from.len)?.force_contiguous()?)?)
    }

    fn distillation_loss(
        &mut self,
        distillation: Distillation,
        _scratch: BufferSpan,
        gradient: bool,
    ) -> Result<()> {
        let teacher = self.copies.get(WeightCopy::Teacher).ok_or_else(|| missing(WeightCopy::Teacher))?;
        let teacher_head = matrix_in(teacher, distillation.head)?;
        let losses = self.divergences(distillation, &teacher_head, gradient)?;
        Ok(self.add_losses(&losses)?)
    }
}

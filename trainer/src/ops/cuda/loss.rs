//! Head, cross-entropy and divergence in chunks of tokens: logits become their own gradient in place and are never held
//! whole.

use super::super::{BufferSpan, Distillation, LossTerms, WeightCopy, WeightMatrix};
use super::kernels::Given::{Bf16s, Count, F32s, F64s, Float, U32s};
use super::launcher::{BF16, DeviceMemory, F32, FactorMatrix, Launcher, NumberFormat, Product, Region};
use super::memory::CudaOps;
use crate::error::Result;
use std::ops::Range;
use zerocopy::IntoBytes;

/// Tokens whose logits are held at once.
pub const LOGITS_ROWS: usize = 4096;
/// Elements that rows of logits are rounded up to: kernels read 16 bytes at once.
const ROW_ALIGNMENT: usize = 8;
/// Shared memory of the kernels that sum over a row, and over all losses, in bytes.
const ROW_SHARED: usize = 256;
const SUM_SHARED: usize = 128;

/// Elements of one token's logits.
fn row_len(vocabulary: usize) -> usize {
    vocabulary.next_multiple_of(ROW_ALIGNMENT)
}

/// Elements of the loss's scratch: at least those of a student's token and its teacher's.
pub(super) fn scratch_len(tokens: usize, vocabulary: usize) -> usize {
    tokens.clamp(2, LOGITS_ROWS) * row_len(vocabulary)
}

/// The chunks of `tokens` tokens whose logits fit `elements`.
fn chunks(tokens: usize, elements: usize, vocabulary: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = elements / row_len(vocabulary);
    (0..tokens).step_by(rows).map(move |first| first..tokens.min(first + rows))
}

/// Rows of an activation.
fn part(span: BufferSpan, rows: &Range<usize>, columns: usize) -> BufferSpan {
    BufferSpan { start: span.start + rows.start * columns, len: rows.len() * columns }
}

/// One word of each of those tokens.
fn of_rows(words: Region, rows: &Range<usize>) -> Region {
    words.part(rows.start * F32, rows.len() * F32)
}

impl<L: Launcher> CudaOps<L> {
    /// Writes each token's loss, and with terms the gradients of `hidden` and head.
    pub(super) fn cross_entropy(
        &self,
        hidden: BufferSpan,
        head: WeightMatrix,
        scratch: BufferSpan,
        terms: Option<LossTerms>,
    ) -> Result<()> {
        let batch = self.batch();
        for rows in chunks(self.layout.tokens, scratch.len, head.rows) {
            let x = part(hidden, &rows, head.columns);
            self.logits(x, self.matrix(head), head, self.at(scratch))?;
            let given = [
                Bf16s(self.at(scratch)),
                U32s(of_rows(batch.targets, &rows)),
                F32s(of_rows(batch.weights, &rows)),
                F32s(of_rows(batch.losses, &rows)),
                Count(head.rows),
                Count(row_len(head.rows)),
                Float(terms.map_or(0.0, |terms| terms.z_loss)),
                Count(usize::from(terms.is_some())),
            ];
            self.launch_blocks("softmax_gradient", rows.len(), ROW_SHARED, &given)?;
            if terms.is_some() {
                self.head_backward(x, head, self.at(scratch))?;
            }
        }
        Ok(())
    }

    /// Writes each token's divergence, and with `gradient` the gradients of the student's activations and head.
    pub(super) fn divergence(
        &self,
        operands: Distillation,
        scratch: BufferSpan,
        gradient: bool,
    ) -> Result<()> {
        let Distillation { student, teacher, head } = operands;
        let teacher_head = self.copies.get(WeightCopy::Teacher)?.matrix(head);
        let batch = self.batch();
        for rows in chunks(self.layout.tokens, scratch.len / 2, head.rows) {
            let (x, stride) = (part(student, &rows, head.columns), row_len(head.rows));
            let bytes = rows.len() * stride * BF16;
            let [of_student, of_teacher] = [0, bytes].map(|start| self.at(scratch).part(start, bytes));
            self.logits(x, self.matrix(head), head, of_student)?;
            self.logits(part(teacher, &rows, head.columns), teacher_head, head, of_teacher)?;
            let given = [
                Bf16s(of_student),
                Bf16s(of_teacher),
                F32s(of_rows(batch.weights, &rows)),
                F32s(of_rows(batch.losses, &rows)),
                Count(head.rows),
                Count(stride),
                Count(usize::from(gradient)),
            ];
            self.launch_blocks("divergence_gradient", rows.len(), ROW_SHARED, &given)?;
            if gradient {
                self.head_backward(x, head, of_student)?;
            }
        }
        Ok(())
    }

    fn logits(&self, x: BufferSpan, weights: Region, head: WeightMatrix, logits: Region) -> Result<()> {
        self.launcher.multiply(&Product {
            shape: [x.len / head.columns, head.rows, head.columns],
            factor: 1.0,
            left: FactorMatrix::new(self.at(x), head.columns),
            right: FactorMatrix::new(weights, head.columns).transpose(),
            output: logits,
            stride: row_len(head.rows),
            format: NumberFormat::Bf16,
            added: None,
        })
    }

    /// Adds to the head's gradient and replaces `x` by its own, from the gradient of its logits.
    fn head_backward(&self, x: BufferSpan, head: WeightMatrix, d_logits: Region) -> Result<()> {
        let (rows, d_logits) = (x.len / head.columns, FactorMatrix::new(d_logits, row_len(head.rows)));
        if let Some(gradient) = self.gradient(head.range()) {
            self.launcher.multiply(&Product {
                shape: [head.rows, head.columns, rows],
                factor: 1.0,
                left: d_logits.transpose(),
                right: FactorMatrix::new(self.at(x), head.columns),
                output: gradient,
                stride: head.columns,
                format: NumberFormat::F32,
                added: Some(gradient),
            })?;
        }
        self.launcher.multiply(&Product {
            shape: [rows, head.columns, head.rows],
            factor: 1.0,
            left: d_logits,
            right: FactorMatrix::new(self.matrix(head), head.columns),
            output: self.at(x),
            stride: head.columns,
            format: NumberFormat::Bf16,
            added: None,
        })
    }

    /// Adds the losses of the targets to the sum.
    pub(super) fn sum_losses(&self) -> Result<()> {
        let batch = self.batch();
        let sum = F64s(self.loss_sum.region());
        let given = [F32s(batch.losses), F32s(batch.weights), sum, Count(self.layout.tokens)];
        self.launch_blocks("loss_sum", 1, SUM_SHARED, &given)
    }

    /// The sum of losses, which begins at 0 again.
    pub(super) fn read_loss_sum(&self) -> Result<f64> {
        let (mut sum, region) = (0.0f64, self.loss_sum.region());
        self.launcher.download(region, sum.as_mut_bytes())?;
        self.launcher.zero(region)?;
        Ok(sum)
    }

    /// Every token's loss.
    pub(super) fn read_losses(&self) -> Result<Vec<f32>> {
        let mut losses = vec![0.0f32; self.layout.tokens];
        self.launcher.download(self.batch().losses, losses.as_mut_bytes())?;
        Ok(losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_tokens() {
        let covered = |tokens, elements| chunks(tokens, elements, 13).collect::<Vec<_>>();
        assert_eq!(covered(5, 32), [0..2, 2..4, 4..5]);
        assert_eq!(covered(2, 1000).as_slice(), std::slice::from_ref(&(0..2)));
        assert_eq!(scratch_len(1, 13), 32);
        assert_eq!(scratch_len(10_000, 49_152), 4096 * 49_152);
    }
}

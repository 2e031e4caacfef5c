//! Copies of the weights, and the loss of distillation.

use super::super::{BufferSpan, Distillation, DistillationOps, WeightCopy, counted};
use super::arena::spans;
use super::{CpuOps, divergence};
use crate::error::{Error, Result};

/// The copies that were written, and the one that passes read.
#[derive(Default)]
pub(super) struct Copies {
    rounded: Vec<f32>,
    teacher: Vec<f32>,
    selected: Option<WeightCopy>,
}

impl Copies {
    fn get(&self, copy: WeightCopy) -> &[f32] {
        match copy {
            WeightCopy::Rounded => &self.rounded,
            WeightCopy::Teacher => &self.teacher,
        }
    }

    /// The selected copy, or else the masters.
    pub(super) fn or<'a>(&'a self, masters: &'a [f32]) -> &'a [f32] {
        self.selected.map_or(masters, |copy| self.get(copy))
    }
}

/// The error where a copy is used that was never written.
fn missing(copy: WeightCopy) -> Error {
    Error::Invalid(format!("expected weights in the copy {copy:?}, found none: write them first"))
}

impl DistillationOps for CpuOps {
    fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        let target = match copy {
            WeightCopy::Rounded => &mut self.copies.rounded,
            WeightCopy::Teacher => &mut self.copies.teacher,
        };
        target.clear();
        target.try_reserve_exact(values.len()).map_err(|_| {
            Error::Invalid(format!(
                "{} bytes of memory for a copy of the weights are not available",
                values.len() * 4
            ))
        })?;
        target.extend_from_slice(values);
        Ok(())
    }

    fn select_weights(&mut self, copy: Option<WeightCopy>) -> Result<()> {
        if let Some(copy) = copy.filter(|&copy| self.copies.get(copy).is_empty()) {
            return Err(missing(copy));
        }
        self.copies.selected = copy;
        Ok(())
    }

    fn copy(&mut self, from: BufferSpan, to: BufferSpan) -> Result<()> {
        let [from, to] = spans(&mut self.arena, [from, to])?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn distillation_loss(
        &mut self,
        Distillation { student, teacher, head }: Distillation,
        scratch: BufferSpan,
        gradient: bool,
    ) -> Result<f64> {
        let [student, teacher, logits] = spans(&mut self.arena, [student, teacher, scratch])?;
        if self.copies.teacher.is_empty() {
            return Err(missing(WeightCopy::Teacher));
        }
        self.losses.resize(self.target_weights.len(), 0.0);
        divergence::divergence(
            &self.threads,
            divergence::Predictions { hidden: student, head: &self.copies.or(&self.weights)[head.range()] },
            divergence::Predictions { hidden: &*teacher, head: &self.copies.teacher[head.range()] },
            (&self.target_weights, &mut self.losses),
            logits,
            gradient.then(|| self.gradients.get_mut(head.range())),
        );
        Ok(counted(&self.losses, &self.target_weights))
    }
}

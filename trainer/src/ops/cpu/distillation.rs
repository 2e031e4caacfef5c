//! The operations of distillation.

use super::super::{BufferSpan, Distillation, DistillationOps, Rounding, WeightCopy, counted};
use super::arena::spans;
use super::copies::missing;
use super::{CpuOps, divergence};
use crate::error::{Error, Result};

fn resize(copy: &mut Vec<f32>, len: usize) -> Result<()> {
    copy.try_reserve_exact(len.saturating_sub(copy.len())).map_err(|_| {
        Error::Invalid(format!("{} bytes of memory for a copy of the weights are not available", len * 4))
    })?;
    copy.resize(len, 0.0);
    Ok(())
}

impl DistillationOps for CpuOps {
    fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        let target = match copy {
            WeightCopy::Rounded => &mut self.copies.rounded,
            WeightCopy::Teacher => &mut self.copies.teacher,
        };
        resize(target, values.len())?;
        target.copy_from_slice(values);
        Ok(())
    }

    fn round_weights(&mut self, round: &Rounding<'_>) -> Result<()> {
        let rounded = &mut self.copies.rounded;
        resize(rounded, self.weights.len())?;
        // What runs in parallel inside runs on the engine's threads.
        self.threads.run(|_| round(&self.weights, rounded));
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
    ) -> Result<()> {
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
        self.loss_sum += counted(&self.losses, &self.target_weights);
        Ok(())
    }
}

//! What distillation needs of a device: other weights for a pass, and the divergence of two models' predictions.

use super::{BufferSpan, WeightMatrix};
use crate::error::Result;

/// Weights beside the masters, of the same layout, which passes can read in place of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightCopy {
    /// The masters after rounding.
    Rounded,
    /// The weights of the model that teaches.
    Teacher,
}

/// The operands of a divergence between a teacher's predictions and a student's.
#[derive(Clone, Copy, Debug)]
pub struct Distillation {
    /// The student's normed last residual, `tokens x columns`.
    pub student: BufferSpan,
    /// The teacher's.
    pub teacher: BufferSpan,
    /// The head, at the same place in both models' weights.
    pub head: WeightMatrix,
}

/// Rounds weights: from the first slice to the second.
pub type Rounding<'r> = dyn Fn(&[f32], &mut [f32]) + Sync + 'r;

/// The operations of distillation on one device.
pub trait DistillationOps {
    /// Replaces a copy of the weights, `parameters` values. Memory for it is allocated the first time.
    ///
    /// # Errors
    /// The device lacks the memory.
    fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()>;

    /// Writes the rounded copy: `round` gets the masters, and where to write what they round to, both `parameters` values.
    ///
    /// # Errors
    /// The device lacks the memory.
    fn round_weights(&mut self, round: &Rounding<'_>) -> Result<()>;

    /// Selects the weights that the passes which follow read: the masters for `None`, as at first. Gradients and
    /// optimizer steps are the masters' all the same.
    ///
    /// # Errors
    /// The copy was never written.
    fn select_weights(&mut self, copy: Option<WeightCopy>) -> Result<()>;

    /// Copies activations; both spans have one length.
    ///
    /// # Errors
    /// The device fails.
    fn copy(&mut self, from: BufferSpan, to: BufferSpan) -> Result<()>;

    /// Adds KL(teacher || student) of the predictions of the batch's targets, those of weight other than 0, over the whole
    /// vocabulary to the device's sum of losses. The student's head is that of the selected weights.
    ///
    /// With `gradient`, replaces the student's activations by their gradient, each token's times its target's weight, and
    /// adds to the head's. Logits are never held whole.
    ///
    /// # Errors
    /// There is no teacher, or the device fails.
    fn distillation_loss(
        &mut self,
        distillation: Distillation,
        scratch: BufferSpan,
        gradient: bool,
    ) -> Result<()>;
}

//! Distillation: a forward pass of the teacher, then one of the student, and the student's backward pass.

use super::activations::{Activations, Passes};
use super::engine::Engine;
use crate::data::TrainingBatch;
use crate::error::{Error, Result};
use crate::ops::{Distillation, Ops, Rounding, WeightCopy};

impl<O: Ops> Engine<O> {
    /// Replaces a copy of the weights, `parameters().len` values.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn write_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        self.ops.write_copy(copy, values)
    }

    /// Writes the rounded copy from the masters.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn round_weights(&mut self, round: &Rounding<'_>) -> Result<()> {
        self.ops.round_weights(round)
    }

    /// Selects the weights of other passes: the masters for `None`, as at first. After a distillation it is the rounded
    /// ones.
    ///
    /// # Errors
    /// The copy was never written.
    pub fn pass_with(&mut self, copy: Option<WeightCopy>) -> Result<()> {
        self.ops.select_weights(copy)
    }

    /// Forward and backward pass of the rounded student over one micro-batch: adds the gradient of KL(teacher ||
    /// student), each target's times its weight, as if it were that of the masters (straight through the rounding), and to
    /// the loss the divergences, without weights.
    ///
    /// # Errors
    /// The batch does not fit the model, there is no copy of the teacher or of the rounded weights, or the device fails.
    pub fn distill(&mut self, batch: &TrainingBatch) -> Result<()> {
        self.divergence(batch, Passes::Both)
    }

    /// Sum of KL(teacher || student) over a batch's targets, in nats.
    ///
    /// # Errors
    /// As [`Engine::distill`].
    pub fn evaluate_divergence(&mut self, batch: &TrainingBatch) -> Result<f64> {
        self.loss_of(|engine| engine.divergence(batch, Passes::Forward))
    }

    fn divergence(&mut self, batch: &TrainingBatch, passes: Passes) -> Result<()> {
        if !self.options.distillation {
            return Err(Error::Invalid(
                "this engine has no room for a teacher's activations: set EngineOptions::distillation".into(),
            ));
        }
        let spans = self.begin(batch, passes)?;
        self.divergence_pass(&spans, passes == Passes::Both)
    }

    fn divergence_pass(&mut self, spans: &Activations, gradient: bool) -> Result<()> {
        self.ops.select_weights(Some(WeightCopy::Teacher))?;
        let taught = self.forward(spans);
        self.ops.select_weights(Some(WeightCopy::Rounded))?;
        taught?;
        self.ops.copy(spans.normed, spans.teacher_normed)?;
        self.forward(spans)?;
        let head = self.parameters.head;
        let distillation = Distillation { student: spans.normed, teacher: spans.teacher_normed, head };
        self.ops.distillation_loss(distillation, spans.logits, gradient)?;
        if gradient { self.backward(spans) } else { Ok(()) }
    }
}

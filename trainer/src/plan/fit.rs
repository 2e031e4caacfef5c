//! Whether a recipe fits the memory, and suggestions where it does not.

use super::{DeviceTarget, MemoryEstimate, TrainingPlan};
use crate::error::{Error, Result};
use crate::recipe::{Compute, Stage, TrainingRecipe};
use crate::units::bytes;

/// Sequences of a pass beyond which nobody asks for more.
const MOST_SEQUENCES: usize = 1 << 20;

/// The most sequences of a stage's context whose pass fits a GPU's `available` bytes; 0 if not even one does.
pub(super) fn largest_micro_batch(recipe: &TrainingRecipe, stage: &Stage, available: u64) -> usize {
    let fits = |sequences: usize| {
        MemoryEstimate::of(recipe, DeviceTarget::Cuda, (sequences, stage.context)).total <= available
    };
    // Memory grows with the sequences: double, then halve the interval.
    let (mut fitting, mut too_many) = (0, 1);
    while fits(too_many) && too_many < MOST_SEQUENCES {
        (fitting, too_many) = (too_many, 2 * too_many);
    }
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    fitting
}

impl TrainingPlan {
    /// Refuses a recipe that does not fit the memory, and suggests what does.
    pub fn fit(&self) -> Result<()> {
        let Some(available) = self.memory_available else { return Ok(()) };
        let stages = self.stages.iter().zip(&self.source.stages).enumerate();
        let Some((index, (planned, stage))) = stages
            .rev()
            .filter(|(_, (planned, _))| planned.memory.total > available)
            .max_by_key(|s| s.1.0.memory.total)
        else {
            return Ok(());
        };
        let (device, advice) = match self.device {
            DeviceTarget::Cpu => ("this machine's CPU", "a smaller model or a shorter context"),
            DeviceTarget::Cuda => {
                ("the GPU", "a smaller model, a shorter context, or a GPU with more memory")
            }
        };
        let need = planned.memory;
        let suggestions = self.suggestions(index, stage, available);
        let change = match suggestions.as_slice() {
            [] => {
                let fixed = need.weights + need.gradients + need.moments;
                format!(
                    "; not even one sequence with activation checkpointing would fit, because weights, gradients and moments \
                     alone need {}: use {advice}",
                    bytes(fixed)
                )
            }
            some => format!("; add {}", some.join(", or ")),
        };
        Err(Error::Invalid(format!(
            "stage `{}` of {} needs {} on {device} with micro_batch = {}, but only {} is available{change}",
            stage.name,
            self.recipe,
            bytes(need.total),
            stage.micro_batch,
            bytes(available)
        )))
    }

    /// Overrides that keep the tokens per step and fit, the least intrusive of each kind.
    fn suggestions(&self, index: usize, stage: &Stage, available: u64) -> Vec<String> {
        let checkpointing = self.source.compute.activation_checkpointing;
        let alike = |other: &Stage| {
            (other.context, other.micro_batch, other.accumulate)
                == (stage.context, stage.micro_batch, stage.accumulate)
        };
        let stages = match self.source.stages.iter().all(alike) {
            true => "*".to_owned(),
            false => index.to_string(),
        };
        let mut found = Vec::new();
        for on in if checkpointing { vec![true] } else { vec![false, true] } {
            let compute = Compute { activation_checkpointing: on, ..self.source.compute.clone() };
            let recipe = TrainingRecipe { compute, ..self.source.clone() };
            let smaller =
                (1..=stage.micro_batch).rev().filter(|size| stage.micro_batch.is_multiple_of(*size));
            let fitting = smaller
                .map(|size| {
                    let sequences = recipe.objective.sequences(&Stage { micro_batch: size, ..stage.clone() });
                    let shape = (sequences, stage.context);
                    (size, MemoryEstimate::of(&recipe, self.assumptions.device, shape).total)
                })
                .find(|(_, total)| *total <= available);
            let Some((size, total)) = fitting else { continue };
            let mut sets = Vec::new();
            if on && !checkpointing {
                sets.push("--set compute.activation_checkpointing=true".to_owned());
            }
            if size < stage.micro_batch {
                let accumulate = stage.accumulate * stage.micro_batch / size;
                sets.push(format!("--set 'stages.{stages}.micro_batch={size}'"));
                sets.push(format!("--set 'stages.{stages}.accumulate={accumulate}'"));
            }
            found.push(format!("{} (needs {})", sets.join(" "), bytes(total)));
        }
        found
    }
}

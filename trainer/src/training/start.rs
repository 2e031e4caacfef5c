//! The weights that a run starts with or continues from.

use crate::base;
use crate::checkpoint::{self, TrainingState, TrainingTensors};
use crate::error::Result;
use crate::frozen::{frozen_hash, require_same_base};
use crate::model::{Engine, Parameters};
use crate::ops::{Buffer, Ops};
use crate::recipe::TrainingRecipe;
use std::path::Path;

/// What the flat buffers hold before a step.
pub(super) struct StartTensors {
    /// The trainable weights and their moments.
    pub(super) tensors: TrainingTensors,
    /// Identifies the frozen weights; none if nothing is frozen.
    pub(super) frozen: Option<String>,
    /// All weights, as they were before the first step; none where `tensors` has them all.
    base: Option<Vec<f32>>,
}

impl StartTensors {
    /// Those before the first step.
    ///
    /// # Errors
    /// As [`base::weights`].
    pub(super) fn first(recipe: &TrainingRecipe, parameters: &Parameters) -> Result<StartTensors> {
        let mut base = base::weights(recipe, parameters)?;
        let frozen = frozen_hash(parameters, &base);
        let zeros = vec![0.0; parameters.trainable];
        let (weights, base) = match frozen {
            Some(_) => (base[..parameters.trainable].to_vec(), Some(base)),
            None => (std::mem::take(&mut base), None),
        };
        let tensors = TrainingTensors { weights, first_moment: zeros.clone(), second_moment: zeros };
        Ok(StartTensors { tensors, frozen, base })
    }

    /// Those of a checkpoint, whose state has been read.
    ///
    /// # Errors
    /// The frozen weights cannot be read, or are others than the checkpoint was made with; as
    /// [`checkpoint::read_tensors`].
    pub(super) fn resumed(
        recipe: &TrainingRecipe,
        parameters: &Parameters,
        (path, state): (&Path, &TrainingState),
    ) -> Result<StartTensors> {
        let tensors = checkpoint::read_tensors(path, parameters)?;
        if parameters.frozen().is_empty() {
            return Ok(StartTensors { tensors, frozen: None, base: None });
        }
        let base = base::weights(recipe, parameters)?;
        let frozen = frozen_hash(parameters, &base);
        require_same_base(state.frozen.as_deref(), frozen.as_deref(), &path.display().to_string())?;
        Ok(StartTensors { tensors, frozen, base: Some(base) })
    }

    /// Writes all of it to an engine; returns what a checkpoint saves.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn write<O: Ops>(self, engine: &mut Engine<O>) -> Result<TrainingTensors> {
        let StartTensors { tensors, base, .. } = self;
        if let Some(base) = base {
            engine.write(Buffer::Weights, &base)?;
        }
        engine.write(Buffer::Weights, &tensors.weights)?;
        engine.write(Buffer::FirstMoment, &tensors.first_moment)?;
        engine.write(Buffer::SecondMoment, &tensors.second_moment)?;
        Ok(tensors)
    }
}

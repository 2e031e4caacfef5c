//! From a recipe to its objective.

use super::Objective;
use super::distill::SelfDistillation;
use super::dpo::PreferenceTraining;
use super::pretrain::Pretraining;
use super::sft::ConversationTraining;
use crate::error::Result;
use crate::ops::Ops;
use crate::recipe::{ObjectiveKeys, TrainingRecipe};

/// Opens the objective of a recipe and its data.
///
/// # Errors
/// The data are missing, damaged, or do not fit the recipe.
pub fn open<O: Ops>(recipe: &TrainingRecipe) -> Result<Box<dyn Objective<O>>> {
    match &recipe.objective {
        ObjectiveKeys::Pretrain if recipe.quantization().is_some() => {
            Ok(Box::new(SelfDistillation::of_stages(recipe)?))
        }
        ObjectiveKeys::Pretrain => Ok(Box::new(Pretraining::open(recipe)?)),
        ObjectiveKeys::Sft(keys) => Ok(Box::new(ConversationTraining::open(recipe, keys)?)),
        ObjectiveKeys::Dpo(keys) => Ok(Box::new(PreferenceTraining::open(recipe, keys)?)),
        ObjectiveKeys::Distill(keys) => Ok(Box::new(SelfDistillation::open(recipe, keys)?)),
    }
}

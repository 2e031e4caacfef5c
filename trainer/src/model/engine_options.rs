//! What decides the engine's arithmetic besides the model's shape.

use crate::recipe::TrainingRecipe;

/// What the engine takes besides the shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineOptions {
    /// Keep one residual per layer and compute the rest again in the backward pass.
    pub activation_checkpointing: bool,
    /// Tokens see only their own document.
    pub document_mask: bool,
    /// Weight of the squared log-partition in the loss; none: off.
    pub z_loss: Option<f64>,
    /// Room for the teacher's activations, for distillation.
    pub distillation: bool,
}

impl EngineOptions {
    /// The options that a recipe asks for.
    pub fn of(recipe: &TrainingRecipe) -> EngineOptions {
        EngineOptions {
            activation_checkpointing: recipe.compute.activation_checkpointing,
            // Rows of examples hold several documents, or one and padding.
            document_mask: recipe.compute.document_mask || !recipe.objective.reads_token_sets(),
            z_loss: recipe.optimizer.z_loss,
            distillation: recipe.quantization().is_some(),
        }
    }
}

//! Warnings about likely mistakes in a recipe.

use super::{Assumptions, StagePlan};
use crate::recipe::{Length, TrainingRecipe};
use crate::units::grouped;

/// Held-out tokens below which a perplexity says little: the losses of single tokens differ by some 2.5 nats (their
/// standard deviation), so the mean of 10,000 is off by 0.025, and the perplexity by 2.5%.
pub const LEAST_HELD_OUT_TOKENS: u64 = 10_000;
/// Passes over a text up to which repeating it is nearly as good as new text (Muennighoff et al. 2023, "Scaling
/// Data-Constrained Language Models").
const MOST_PASSES: f64 = 4.0;
/// Tolerated passes over one set of a mixture, relative to those that the stage asks for.
const TOLERANCE: f64 = 1.05;

/// A sentence about a held-out set that is too small, if it is; the caller adds the remedy.
pub fn little_held_out(tokens: u64) -> Option<String> {
    (tokens < LEAST_HELD_OUT_TOKENS).then(|| {
        format!(
            "only {} tokens are held out: with fewer than {}, the perplexity is off by several percent",
            grouped(tokens),
            grouped(LEAST_HELD_OUT_TOKENS)
        )
    })
}

/// Warnings as far as the sizes of the sets are known.
pub(super) fn warnings(
    recipe: &TrainingRecipe,
    stages: &[StagePlan],
    assumptions: &Assumptions,
) -> Vec<String> {
    let mut found = Vec::new();
    for (planned, stage) in stages.iter().zip(&recipe.stages) {
        let Some(tokens) = planned.tokens else { continue };
        for set in stage.mixture.keys().filter(|set| stage.share(set) > 0.0) {
            let Some(&size) = assumptions.set_tokens.get(set).filter(|size| **size > 0) else { continue };
            let passes = tokens as f64 * stage.share(set) / size as f64;
            let (most, asked) = match stage.length {
                Length::Epochs(epochs) => (epochs * TOLERANCE, format!("the recipe asks for {epochs}")),
                Length::Steps(_) | Length::Tokens(_) => {
                    (MOST_PASSES, format!("at most {MOST_PASSES} is advisable"))
                }
            };
            if passes > most {
                found.push(format!(
                    "stage `{}` reads set `{set}` ({} tokens) {passes:.1} times; {asked}: add text, or shorten the stage",
                    stage.name,
                    grouped(size)
                ));
            }
        }
    }
    found.extend(held_out(recipe, assumptions));
    found
}

fn held_out(recipe: &TrainingRecipe, assumptions: &Assumptions) -> Option<String> {
    let validation = recipe.validation.as_ref()?;
    let name = validation.set.as_ref()?;
    let &tokens = assumptions.set_tokens.get(name)?;
    let longest = recipe.stages.iter().map(|stage| stage.context as u64).max()?;
    if tokens <= longest {
        return Some(format!(
            "validation set `{name}` has {} tokens, too few for one window of {} and the next token, so pretrain will stop \
             there; hold out more text",
            grouped(tokens),
            grouped(longest)
        ));
    }
    let few = little_held_out(tokens)?;
    Some(format!("{few}; hold out more text for validation set `{name}`"))
}

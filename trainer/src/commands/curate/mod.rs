//! `thimble-train curate`.

mod classify;
mod decontaminate;
mod dedup;
mod display;
mod input;
mod json_lines;
mod recipe;
mod rules;
mod score;
mod train_classifier;

use clap::Subcommand;
use thimble_trainer::error::Result;

/// Turn raw text into a training set: deduplicate, decontaminate, filter.
///
/// With a recipe, all its stages run, and write a folder that `tokenize` reads. A killed run goes on where it was, and
/// the bytes are the same for any number of threads and tasks. Some stages are commands of their own.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Flags {
    #[command(flatten)]
    recipe: Option<recipe::RecipeFlags>,
    #[command(subcommand)]
    stage: Option<Stage>,
}

#[derive(Debug, Subcommand)]
enum Stage {
    Dedup(dedup::Flags),
    Decontaminate(decontaminate::Flags),
    Classify(classify::Flags),
    TrainClassifier(train_classifier::Flags),
    Rules(rules::Flags),
    Score(score::Flags),
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        match (self.stage, self.recipe) {
            (Some(Stage::Dedup(flags)), _) => flags.run(),
            (Some(Stage::Decontaminate(flags)), _) => flags.run(),
            (Some(Stage::Classify(flags)), _) => flags.run(),
            (Some(Stage::TrainClassifier(flags)), _) => flags.run(),
            (Some(Stage::Rules(flags)), _) => flags.run(),
            (Some(Stage::Score(flags)), _) => flags.run(),
            (None, Some(flags)) => flags.run(),
            // The parser asks for one of them.
            (None, None) => Ok(()),
        }
    }
}

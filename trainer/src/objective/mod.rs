//! What a run minimizes: an [`Objective`] draws the data of a step, weighs its targets, and measures the held-out data.
//!
//! The loop ([`crate::training`]) knows neither token sets nor conversations nor pairs: it asks for the gradient of one
//! optimizer step and applies it. An objective divides by the targets of the whole step, so that micro-batches of
//! unequal length weigh what they hold.

mod distill;
mod dpo;
mod open;
mod preference_figures;
pub mod preference_loss;
mod pretrain;
pub mod reference;
mod sft;

pub use open::open;

use crate::data::DataPosition;
use crate::error::Result;
use crate::model::Engine;
use crate::ops::Ops;
use std::path::Path;

/// Named numbers beside the loss, in a fixed order; names are snake_case and appear in metrics and plots.
pub type Figures = Vec<(&'static str, f64)>;

/// What the data of one optimizer step gave.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// The step's loss, one mean over all its targets (or pairs).
    pub loss: f64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Tokens whose prediction is trained.
    pub targets: u64,
    /// What else is worth a curve; the progress line shows the first ones.
    pub figures: Figures,
}

/// A measurement of the held-out data.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// What is compared to find the best: less is better.
    pub loss: f64,
    /// The perplexity, where the loss is a mean negative log-likelihood of tokens.
    pub perplexity: Option<f64>,
    /// Tokens that were predicted.
    pub targets: u64,
    /// As of a step.
    pub figures: Figures,
}

/// The tokenizer that the data are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataTokenizer<'a> {
    /// The folder of its files, which the run folder copies.
    pub folder: Option<&'a Path>,
    /// Its hash, to recognize it.
    pub hash: &'a str,
    /// The id that ends a document or an answer.
    pub end: u32,
}

/// What an objective may need before the first step.
#[derive(Clone, Copy)]
pub struct Preparation<'a> {
    /// The run folder, for caches.
    pub run: &'a Path,
    /// Whether the run begins; else it continues from a checkpoint.
    pub fresh: bool,
    /// Show no progress.
    pub quiet: bool,
    /// Reads the weights that the run begins (or began) with, as the engine's flat buffer.
    pub initial_weights: &'a dyn Fn() -> Result<Vec<f32>>,
}

/// A stage that a run enters.
#[derive(Clone, Copy, Debug)]
pub struct StageEntry<'a> {
    /// The run folder.
    pub run: &'a Path,
    /// The stage, as an index of the recipe's.
    pub stage: usize,
    /// Whether its first step is next; else it was entered before, by this process or another.
    pub first_step: bool,
}

/// What a run minimizes, over which data.
///
/// Stages are indices of the recipe's. Steps of a stage are drawn in order; what a step reads is a function of the
/// recipe, the data and the step alone.
pub trait Objective<O: Ops> {
    /// The tokenizer of the data.
    fn tokenizer(&self) -> DataTokenizer<'_>;

    /// Optimizer steps of a stage.
    fn steps(&self, stage: usize) -> u64;

    /// Tokens of the examples that a stage reads, where its steps are of different sizes.
    fn tokens(&self, stage: usize) -> Option<u64> {
        let _ = stage;
        None
    }

    /// The largest pass of a stage: sequences, and input tokens of each.
    fn shape(&self, stage: usize) -> (usize, usize);

    /// Called once, before the first step of this process, when the engine has the weights to continue from. It may use
    /// the engine's weights for passes of its own and must restore them.
    ///
    /// # Errors
    /// A pass fails, or a cache cannot be written.
    fn prepare(&mut self, engine: &mut Engine<O>, with: Preparation<'_>) -> Result<()> {
        let _ = (engine, with);
        Ok(())
    }

    /// Called when this process enters a stage, before the data of its next step are drawn. It may change the masters.
    ///
    /// # Errors
    /// A pass fails, or a file cannot be read or written.
    fn enter(&mut self, engine: &mut Engine<O>, entry: StageEntry<'_>) -> Result<()> {
        let _ = (engine, entry);
        Ok(())
    }

    /// Draws the data of the next step and adds its gradient to the engine's, which are zero.
    ///
    /// A loss that is not finite is a result, not an error: the loop decides what follows.
    ///
    /// # Errors
    /// The data cannot be read, or the device fails.
    fn accumulate(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<StepResult>;

    /// Measures the held-out data at a stage's context; none where the recipe holds none out.
    ///
    /// # Errors
    /// As [`Objective::accumulate`].
    fn measure(&mut self, engine: &mut Engine<O>, stage: usize) -> Result<Option<Measurement>>;

    /// Lets passes that are not its own, such as those of samples, see the weights of now.
    ///
    /// # Errors
    /// The device fails.
    fn refresh(&mut self, engine: &mut Engine<O>) -> Result<()> {
        let _ = engine;
        Ok(())
    }

    /// The position behind the last step.
    fn position(&self) -> DataPosition;

    /// Moves to a position that [`Objective::position`] gave: the same steps follow, bit for bit.
    ///
    /// # Errors
    /// The position is of other data or stages.
    fn seek(&mut self, position: &DataPosition) -> Result<()>;

    /// Draws the data of the next step without computing anything.
    ///
    /// # Errors
    /// The data cannot be read.
    fn skip(&mut self, stage: usize) -> Result<()>;

    /// Where the data of the last step come from, one line for each sequence; empty before the first step. The position
    /// stays.
    fn describe(&mut self) -> Vec<String>;

    /// What a person should know after the last step, if anything; it is shown as a warning.
    fn warning(&mut self) -> Option<String> {
        None
    }

    /// A sentence about the data that a stage has drawn so far, for the end of the stage.
    fn stage_summary(&self) -> Option<String> {
        None
    }
}

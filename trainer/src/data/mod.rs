//! From text to batches: sources, tokenization into shards, the loader, and pairs of answers.

pub mod conversations;
pub(crate) mod examples;
pub mod loader;
mod position;
pub mod preferences;
pub mod source;
pub mod token_set;
pub mod tokenize;
pub mod tokenizer;

pub use examples::LengthCount;
pub use position::{DataPosition, ExamplePosition};

/// One micro-batch of windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingBatch {
    /// Windows.
    pub sequences: usize,
    /// Tokens that are inputs in each window.
    pub context: usize,
    /// `sequences x (context + 1)` ids: the first `context` of a row are inputs, the last `context` are targets.
    pub ids: Vec<u32>,
    /// `sequences x context`: for each input position, the position in its row at which its document begins (0 where
    /// the document began before the window).
    pub document_start: Vec<u32>,
    /// `sequences x context`: the factor of each target's gradient; 0 where the next token is no target, whose loss
    /// does not count.
    pub weights: Vec<f32>,
}

impl TrainingBatch {
    /// Windows in which every next token is a target of weight 1.
    pub fn new(sequences: usize, context: usize, ids: Vec<u32>, document_start: Vec<u32>) -> TrainingBatch {
        let weights = vec![1.0; document_start.len()];
        TrainingBatch { sequences, context, ids, document_start, weights }
    }

    /// Gives every target the same weight.
    pub fn weigh(&mut self, weight: f32) {
        self.weights.fill(weight);
    }

    /// The same windows with that weight for every target.
    #[must_use]
    pub fn weighed(mut self, weight: f32) -> TrainingBatch {
        self.weigh(weight);
        self
    }

    /// Changes the size and makes every weight 1; ids and documents are unspecified afterwards.
    pub(crate) fn resize(&mut self, sequences: usize, context: usize) {
        (self.sequences, self.context) = (sequences, context);
        self.ids.resize(sequences * (context + 1), 0);
        self.document_start.resize(sequences * context, 0);
        self.weights.clear();
        self.weights.resize(sequences * context, 1.0);
    }
}

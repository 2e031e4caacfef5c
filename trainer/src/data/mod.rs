//! From text to batches: sources, tokenization into shards, the loader, and pairs of answers.

pub mod conversations;
pub(crate) mod examples;
pub mod loader;
mod position;
pub mod preferences;
pub mod token_set;
pub mod tokenize;
pub mod tokenizer;

pub use examples::LengthCount;
pub use position::{DataPosition, ExamplePosition};
pub use thimble_curate::source;

use crate::error::{Error, Result};

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
    /// the document began before the window). Within a row it never decreases and is never beyond the position.
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

    /// Refuses parts of other sizes, ids beyond a vocabulary, and documents out of order: kernels skip what documents in
    /// order do not see.
    pub(crate) fn check(&self, vocabulary: usize) -> Result<()> {
        let (sequences, context) = (self.sequences, self.context);
        let tokens = sequences * context;
        let lengths = [self.ids.len(), self.document_start.len(), self.weights.len()];
        if tokens == 0 || lengths != [tokens + sequences, tokens, tokens] {
            return Err(Error::Invalid(format!(
                "a batch of {sequences} sequences of {context} + 1 tokens has {} ids, {} document starts and {} weights",
                lengths[0], lengths[1], lengths[2]
            )));
        }
        if let Some((at, id)) = self.ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocabulary) {
            return Err(Error::Invalid(format!(
                "sequence {}, position {}: token id {id} is beyond the model's vocabulary of {vocabulary}; was the text \
                 tokenized with another tokenizer?",
                at / (context + 1),
                at % (context + 1)
            )));
        }
        for (sequence, row) in self.document_start.chunks_exact(context).enumerate() {
            let mut least = 0;
            for (position, &start) in row.iter().enumerate() {
                if start < least || start as usize > position {
                    return Err(Error::Invalid(format!(
                        "sequence {sequence}, position {position}: expected its document to start from {least} to \
                         {position}, found {start}"
                    )));
                }
                least = start;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_out_of_order_are_refused() {
        let batch = |starts: [u32; 4]| TrainingBatch::new(1, 4, vec![1; 5], starts.to_vec());
        for starts in [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 2, 2]] {
            assert!(batch(starts).check(2).is_ok(), "{starts:?}");
        }
        for (starts, place) in [([0, 2, 2, 2], 1), ([0, 1, 0, 0], 2), ([1, 1, 1, 1], 0), ([0, 0, 2, 1], 3)] {
            let error = batch(starts).check(2).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("sequence 0, position {place}: expected its document")),
                "{error}"
            );
        }
        assert!(batch([0; 4]).check(1).unwrap_err().to_string().contains("token id 1 is beyond"));
        let short = TrainingBatch { weights: vec![1.0; 3], ..batch([0; 4]) };
        assert!(short.check(2).unwrap_err().to_string().contains("4 document starts and 3 weights"));
        assert!(TrainingBatch::default().check(2).is_err());
    }
}

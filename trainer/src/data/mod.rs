//! From text to batches: sources, tokenization into shards, and the loader.

pub mod loader;
pub mod source;
pub mod token_set;
pub mod tokenize;
pub mod tokenizer;

/// One micro-batch of windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

impl TrainingBatch {
    /// Changes the size; the content is unspecified afterwards.
    pub(crate) fn resize(&mut self, sequences: usize, context: usize) {
        (self.sequences, self.context) = (sequences, context);
        self.ids.resize(sequences * (context + 1), 0);
        self.document_start.resize(sequences * context, 0);
    }
}

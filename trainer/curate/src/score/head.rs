//! The file of a fitted head.

use super::regression::{RidgeFit, predict};
use crate::error::{CurateError, Result};
use crate::source::SourceFile;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Whose embeddings a head was fitted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingSource {
    /// The model's file.
    pub model: SourceFile,
    /// Tokens of a document that are embedded, from its beginning.
    pub tokens: usize,
}

/// A linear head on embeddings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreHead {
    /// Whose embeddings.
    pub embedding: EmbeddingSource,
    /// A weight for each value of an embedding.
    weights: Vec<f64>,
    bias: f64,
    ridge: f64,
    /// Labelled documents it was fitted to.
    documents: usize,
}

impl ScoreHead {
    /// A head that was fitted to `documents` documents.
    pub fn new(embedding: EmbeddingSource, fit: RidgeFit, documents: usize) -> ScoreHead {
        ScoreHead { embedding, weights: fit.weights, bias: fit.bias, ridge: fit.ridge, documents }
    }

    /// Reads a head.
    ///
    /// # Errors
    /// The file cannot be read, or is no head.
    pub fn open(path: &Path) -> Result<ScoreHead> {
        let text = std::fs::read(path).map_err(CurateError::file(path, "read"))?;
        let invalid =
            |why: String| CurateError::Invalid(format!("{}: not a score head: {why}", path.display()));
        let head: ScoreHead = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if head.weights.is_empty() || head.embedding.tokens == 0 {
            return Err(invalid("expected weights and a number of tokens, found none".to_owned()));
        }
        Ok(head)
    }

    /// The head as JSON.
    ///
    /// # Errors
    /// Weights that are not numbers.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| CurateError::Invalid(error.to_string()))
    }

    /// Checks that `model` is the file whose embeddings the head knows.
    ///
    /// # Errors
    /// It is another.
    pub fn check(&self, model: &SourceFile) -> Result<()> {
        let known = &self.embedding.model;
        if (known.bytes, &known.xxh3_ends) == (model.bytes, &model.xxh3_ends) {
            return Ok(());
        }
        Err(CurateError::Invalid(format!(
            "{}: expected the model that the head was trained with ({}, {} bytes), found another of {} bytes; choose that \
             model, or train the head again",
            model.path, known.path, known.bytes, model.bytes
        )))
    }

    /// The score of an embedding, from about 0 to 5; `None` where it has another length.
    pub fn score(&self, embedding: &[f32]) -> Option<f64> {
        (embedding.len() == self.weights.len()).then(|| predict(&self.weights, self.bias, embedding))
    }
}

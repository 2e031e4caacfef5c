//! A score from 0 to 5 by a regression on embeddings, as FineWeb-Edu's classifier of educational value (Penedo et al.
//! 2024, section 4): the embedding is fixed, and a linear head is fitted to labelled documents.

mod evaluation;
mod head;
mod regression;

pub use evaluation::ScoreEvaluation;
pub use head::{EmbeddingSource, ScoreHead};
pub use regression::{RIDGES, RidgeFit, fit};

/// The largest score; the least is 0.
pub const MOST: f64 = 5.0;

/// The whole score nearest to a prediction, from 0 to 5.
pub fn rounded(score: f64) -> usize {
    score.clamp(0.0, MOST).round() as usize
}

//! Text embeddings as vectors.

use thimble_runtime::Token;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::sequence::Sequence;
use thimble_runtime::session::{Session, SessionError};

/// The embedding of a text, `[hidden]`, of length 1: see [`Session::text_embedding`], which replaces the sequence by `tokens`.
///
/// # Errors
/// There are no tokens, more than the context has room for, or unknown ones.
pub fn embed<S: Sequence>(
    session: &mut Session<S>,
    tokens: &[Token],
    pooling: Pooling,
) -> Result<Vec<f32>, SessionError> {
    let mut embedding = vec![0.0; session.hidden()];
    session.text_embedding(tokens, pooling, &mut embedding)?;
    Ok(embedding)
}

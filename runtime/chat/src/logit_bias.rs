//! Logit biases of tokens and of texts.

use crate::encode;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::{EncodeError, Specials, Tokenizer};
use thiserror::Error;

/// What a logit bias applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BiasTarget {
    /// One token.
    Token(Token),
    /// Each token of a text, special tokens parsed. White space counts: in most vocabularies `" word"` and `"word"` are
    /// different tokens.
    Text(String),
}

/// Why a logit bias is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BiasError {
    /// A token that is not in the vocabulary.
    #[error("logit bias: expected token ids below {vocab}, found {found}")]
    UnknownToken {
        /// Its id.
        found: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A text without tokens.
    #[error("logit bias: the text {text:?} has no tokens, expected at least one character")]
    NoTokens {
        /// The text.
        text: String,
    },
    /// The tokenizer refused a text.
    #[error("logit bias: {0}")]
    Encode(#[from] EncodeError),
}

/// The biases of tokens that stand for `biases`, for [`thimble_runtime::sampler::Sampler::with_bias`]. Biases of the same
/// token add up; a text counts once for each of its different tokens.
///
/// # Errors
/// [`BiasError`].
pub fn token_biases(
    tokenizer: &Tokenizer<'_>,
    vocab: usize,
    biases: &[(BiasTarget, f32)],
) -> Result<Vec<(Token, f32)>, BiasError> {
    let mut out = Vec::with_capacity(biases.len());
    for (target, bias) in biases {
        let mut tokens = match target {
            BiasTarget::Token(token) => vec![*token],
            BiasTarget::Text(text) => encode(tokenizer, text, Specials::Parse)?,
        };
        if let (BiasTarget::Text(text), true) = (target, tokens.is_empty()) {
            return Err(BiasError::NoTokens { text: text.clone() });
        }
        if let Some(unknown) = tokens.iter().find(|token| token.index() >= vocab) {
            return Err(BiasError::UnknownToken { found: unknown.0, vocab });
        }
        tokens.sort_unstable();
        tokens.dedup();
        out.extend(tokens.into_iter().map(|token| (token, *bias)));
    }
    Ok(out)
}

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

#[cfg(test)]
mod tests {
    use super::{BiasError, BiasTarget, Token, Tokenizer, token_biases};
    use crate::{decode, encode};
    use thimble_runtime::tokenizer::Specials;

    /// The small vocabulary of the runtime's own tests: 512 tokens.
    fn tokenizer() -> Tokenizer<'static> {
        Tokenizer::parse(include_bytes!("../../src/tokenizer/fixture/tiny.bin"), 512).unwrap()
    }

    fn biases(biases: &[(BiasTarget, f32)]) -> Result<Vec<(Token, f32)>, BiasError> {
        token_biases(&tokenizer(), 512, biases)
    }

    fn text(text: &str) -> BiasTarget {
        BiasTarget::Text(text.to_owned())
    }

    #[test]
    fn a_text_counts_once_for_each_of_its_tokens() {
        let token = |text: &str| encode(&tokenizer(), text, Specials::Parse).unwrap()[0];
        let found = biases(&[(BiasTarget::Token(Token(7)), 2.0), (text("\u{1}\u{2}\u{1}"), -1.0)]).unwrap();
        let mut expected = [token("\u{1}"), token("\u{2}")];
        expected.sort_unstable();
        let expected = [(Token(7), 2.0), (expected[0], -1.0), (expected[1], -1.0)];
        assert_eq!(found, expected);
        let special = tokenizer().special("<|end|>").unwrap();
        assert_eq!(biases(&[(text("<|end|>"), f32::NEG_INFINITY)]), Ok(vec![(special, f32::NEG_INFINITY)]));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let unknown = BiasError::UnknownToken { found: 512, vocab: 512 };
        assert_eq!(biases(&[(BiasTarget::Token(Token(512)), 1.0)]), Err(unknown));
        assert_eq!(biases(&[(text(""), 1.0)]), Err(BiasError::NoTokens { text: String::new() }));
    }

    #[test]
    fn tokens_become_text_again() {
        let tokenizer = tokenizer();
        for text in ["", "hello there", "\u{e9} \u{1f600}<|end|>"] {
            let tokens = encode(&tokenizer, text, Specials::Parse).unwrap();
            assert_eq!(decode(&tokenizer, &tokens).as_deref(), Some(text));
        }
        let smile = encode(&tokenizer, "\u{1f600}", Specials::Parse).unwrap();
        assert_eq!(decode(&tokenizer, &smile[..1]).as_deref(), Some("\u{fffd}"));
        assert_eq!(decode(&tokenizer, &[Token(512)]), None);
    }
}

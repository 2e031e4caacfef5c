//! Encodes texts and conversations, with buffers from the heap.

use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, ModelFile};
use thimble_runtime::tokenizer::{EncodeError, Specials, Tokenizer};

/// The tokens of `text`, which may be a part of a longer one.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode(tokenizer: &Tokenizer<'_>, text: &str, specials: Specials) -> Result<Vec<Token>, EncodeError> {
    let mut scratch = vec![0; tokenizer.scratch_for(text)];
    let mut tokens = vec![Token::default(); tokenizer.most_tokens(text)];
    let count = tokenizer.encode(text, specials, &mut scratch, &mut tokens)?;
    tokens.truncate(count);
    Ok(tokens)
}

/// The text of `tokens`, special tokens as they are spelled; U+FFFD for bytes that are no whole character. `None` for a token
/// that is not in the vocabulary. To decode a token at a time, use [`thimble_runtime::stop::TextStream`].
pub fn decode(tokenizer: &Tokenizer<'_>, tokens: &[Token]) -> Option<String> {
    let mut bytes = Vec::new();
    for &token in tokens {
        if token.index() >= tokenizer.vocab() {
            return None;
        }
        bytes.extend_from_slice(tokenizer.token_bytes(token));
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The tokens of a text by itself, outside a chat template: a prompt to continue, or a text to score. They begin with the
/// begin-of-text token if the tokenizer adds one ([`Tokenizer::adds_bos`]), even if the text spells one out, as with
/// `tokenizer(text)` of transformers.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode_text(
    tokenizer: &Tokenizer<'_>,
    config: &Config,
    text: &str,
    specials: Specials,
) -> Result<Vec<Token>, EncodeError> {
    let mut tokens = encode(tokenizer, text, specials)?;
    if let Some(bos) = config.bos.filter(|_| tokenizer.adds_bos()) {
        tokens.insert(0, bos);
    }
    Ok(tokens)
}

/// The tokens of `text`; special tokens that overlap the byte ranges `typed` are plain text.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn encode_typed(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    typed: &[Range<usize>],
) -> Result<Vec<Token>, EncodeError> {
    let mut scratch = vec![0; tokenizer.scratch_for(text)];
    let mut tokens = vec![Token::default(); tokenizer.most_tokens(text)];
    let count = loop {
        match tokenizer.encode_typed(text, typed, &mut scratch, &mut tokens) {
            // Reading special tokens as text can make a longer piece.
            Err(EncodeError::WordTooLong { expected, .. }) if expected > scratch.len() => {
                scratch.resize(expected, 0);
            }
            encoded => break encoded?,
        }
    };
    tokens.truncate(count);
    Ok(tokens)
}

/// Whether `text` contains a special token.
///
/// # Errors
/// The tokenizer rejects the text.
pub fn has_special(tokenizer: &Tokenizer<'_>, text: &str) -> Result<bool, EncodeError> {
    Ok(encode(tokenizer, text, Specials::Parse)?.iter().any(|&token| tokenizer.is_special(token)))
}

/// The token that stands in for an empty context: end-of-text, or else BOS or a stop token.
pub fn end_of_text(file: &ModelFile<'_>) -> Option<Token> {
    let named = file.tokenizer().special("<|endoftext|>");
    let config = file.config();
    named.or(config.bos).or(config.stop.iter().flatten().next().copied())
}

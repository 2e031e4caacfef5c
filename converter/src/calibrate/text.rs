//! Windows of tokens to calibrate on.

use crate::ConvertError;
use thimble_runtime::Token;
use thimble_runtime::format::Config;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// Tokens in a window, where the model's context has room for them.
pub(crate) const WINDOW: usize = 512;
/// Tokens that are used of a long text.
pub(crate) const MOST: usize = 48 * WINDOW;

/// The text that comes with the converter: excerpts of books in the public domain (Standard Ebooks' editions, CC0)
/// and short pieces of other kinds, dialogues, sums and code among them, written for this purpose.
pub fn default_text() -> &'static str {
    include_str!("default.txt")
}

/// Windows spread evenly over a text, at most `most` tokens of it.
///
/// # Errors
/// The text has not even one window, or cannot be encoded.
pub(crate) fn windows(
    section: &[u8],
    config: &Config,
    text: &str,
    most: usize,
) -> Result<Vec<Vec<u32>>, ConvertError> {
    let fault = |reason| ConvertError::Calibration { reason };
    let tokenizer = Tokenizer::parse(section, config.vocab)?;
    let mut scratch = vec![0; Tokenizer::scratch_bytes(tokenizer.longest_piece(text))];
    let mut tokens = vec![Token(0); text.len()];
    let count = tokenizer.encode(text, Specials::Escape, &mut scratch, &mut tokens);
    let count = count.map_err(|error| fault(format!("the text cannot be encoded: {error}")))?;
    let window = WINDOW.min(config.context);
    if count < window {
        return Err(fault(format!(
            "the text has {count} tokens, less than one window of {window}: use a longer text, better at least {MOST} tokens"
        )));
    }
    let wanted = (most.min(MOST) / window).max(1);
    let windows = (count / window).min(wanted);
    let start = |index: usize| (count / window) * index / windows * window;
    Ok((0..windows).map(|i| tokens[start(i)..][..window].iter().map(|t| t.0).collect()).collect())
}

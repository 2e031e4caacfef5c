//! Windows of tokens for calibration.

use crate::ConvertError;
use thimble_chat::encode_text;
use thimble_runtime::format::Config;
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// The windows to take from a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Tokens in a window, at most the model's context.
    pub(crate) tokens: usize,
    /// Windows of a long text.
    pub(crate) count: usize,
}

/// For calibration.
pub(crate) const CALIBRATION: Windows = Windows { tokens: 512, count: 48 };

/// The built-in calibration text: excerpts of books in the public domain (Standard Ebooks' editions, CC0) and short
/// pieces written for this purpose, such as dialogues, arithmetic and code.
pub fn default_text() -> &'static str {
    include_str!("default.txt")
}

/// Windows spread evenly over a text.
///
/// # Errors
/// The text is shorter than a window, or cannot be encoded.
pub(crate) fn windows(
    section: &[u8],
    config: &Config,
    text: &str,
    size: Windows,
) -> Result<Vec<Vec<u32>>, ConvertError> {
    let fault = |reason| ConvertError::Calibration { reason };
    let tokenizer = Tokenizer::parse(section, config.vocab)?;
    let tokens = encode_text(&tokenizer, config, text, Specials::Escape);
    let tokens = tokens.map_err(|error| fault(format!("the text cannot be encoded: {error}")))?;
    let count = tokens.len();
    let window = size.tokens.min(config.context);
    if count < window {
        return Err(fault(format!(
            "the text has {count} tokens, less than one window of {window}: use a longer text, better at least {} tokens",
            size.tokens * size.count
        )));
    }
    // With a short context, more windows give as many tokens.
    let windows = (count / window).min((size.tokens * size.count / window).max(1));
    let start = |index: usize| (count / window) * index / windows * window;
    Ok((0..windows).map(|i| tokens[start(i)..][..window].iter().map(|t| t.0).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_config::CONFIG;
    use crate::tokenizer::{Vocabulary, char_of};
    use thimble_runtime::Token;

    #[test]
    fn windows_are_whole_and_spread() {
        let bytes: Vec<String> = (0..=255).map(|byte| char_of(byte).to_string()).collect();
        let vocabulary = Vocabulary::from_gguf(&bytes, &[], &[], "smollm").unwrap();
        let section = vocabulary.emit();
        let config = Config { vocab: 256, context: 8, ..CONFIG };
        let text: String = ('a'..='z').cycle().take(100).collect();
        let size = Windows { tokens: 16, count: 2 };
        let found = windows(&section, &config, &text, size).unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [8; 4], "the context is shorter");
        assert_eq!(
            found.iter().map(|w| w[0]).collect::<Vec<_>>(),
            [b'a', b'y', b'w', b'u'].map(u32::from),
            "spread over the text"
        );
        let begun = Vocabulary { adds_bos: true, ..vocabulary }.emit();
        let found = windows(&begun, &Config { bos: Some(Token(7)), ..config }, &text, size).unwrap();
        assert_eq!(
            found.iter().map(|w| w[0]).collect::<Vec<_>>(),
            [7, u32::from(b'x'), u32::from(b'v'), u32::from(b't')],
            "one text, one begin-of-text token"
        );
        assert_eq!(windows(&section, &config, &text[..17], size).unwrap().len(), 2);
        assert_eq!(windows(&section, &config, &text[..8], size).unwrap().len(), 1);
        let error = windows(&section, &config, &text[..7], size).unwrap_err().to_string();
        assert!(
            error.contains("7 tokens") && error.contains("window of 8") && error.contains("32"),
            "{error}"
        );
    }
}

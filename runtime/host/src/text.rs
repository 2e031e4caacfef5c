//! Text to tokens, in memory of its own.

use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::{EncodeError, Specials, Tokenizer};

/// The ids of `text`.
///
/// # Errors
/// A text that the tokenizer cannot take.
pub fn encode(tokenizer: &Tokenizer<'_>, text: &str, specials: Specials) -> Result<Vec<Token>, EncodeError> {
    let longest = tokenizer.longest_piece(text);
    let mut scratch = vec![0; Tokenizer::scratch_bytes(longest)];
    let mut tokens = vec![Token::default(); text.len()];
    let count = tokenizer.encode(text, specials, &mut scratch, &mut tokens)?;
    tokens.truncate(count);
    Ok(tokens)
}

/// What stands in for a context without tokens: the end-of-text token, or what the model has instead.
pub fn end_of_text(file: &ModelFile<'_>) -> Option<Token> {
    let named = file.tokenizer().special("<|endoftext|>");
    let config = file.config();
    named.or(config.bos).or(config.stop.iter().flatten().next().copied())
}

//! Texts and conversations to tokens, in memory of their own.

use crate::ChatError;
use crate::template::{self, OwnedPiece, TemplateError};
use std::ops::Range;
use thimble_runtime::Token;
use thimble_runtime::chat::Message;
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

/// The ids of `text`, in which special tokens that touch the byte ranges `typed` are plain text.
///
/// # Errors
/// A text that the tokenizer cannot take.
pub fn encode_typed(
    tokenizer: &Tokenizer<'_>,
    text: &str,
    typed: &[Range<usize>],
) -> Result<Vec<Token>, EncodeError> {
    let mut scratch = vec![0; Tokenizer::scratch_bytes(tokenizer.longest_piece(text))];
    let mut tokens = vec![Token::default(); text.len()];
    let count = loop {
        match tokenizer.encode_typed(text, typed, &mut scratch, &mut tokens) {
            // A word that no other way to read the special tokens cuts like this.
            Err(EncodeError::PieceTooLong { expected, .. }) if expected > scratch.len() => {
                scratch.resize(expected, 0);
            }
            encoded => break encoded?,
        }
    };
    tokens.truncate(count);
    Ok(tokens)
}

/// Whether the text of a special token is in `text`.
///
/// # Errors
/// A text that the tokenizer cannot take.
pub fn has_special(tokenizer: &Tokenizer<'_>, text: &str) -> Result<bool, EncodeError> {
    Ok(encode(tokenizer, text, Specials::Parse)?.iter().any(|&token| tokenizer.is_special(token)))
}

/// What stands in for a context without tokens: the end-of-text token, or what the model has instead.
pub fn end_of_text(file: &ModelFile<'_>) -> Option<Token> {
    let named = file.tokenizer().special("<|endoftext|>");
    let config = file.config();
    named.or(config.bos).or(config.stop.iter().flatten().next().copied())
}

/// The ids of a conversation up to the place where the answer begins. Special tokens are the template's alone: in
/// somebody's text they are plain text.
///
/// # Errors
/// The model has no template, or the template refuses the conversation.
pub fn encode_chat(file: &ModelFile<'_>, messages: &[Message<'_>]) -> Result<Vec<Token>, ChatError> {
    let template = file.chat().ok_or(ChatError::NoTemplate)?;
    let tokenizer = file.tokenizer();
    let pieces = match template::render(&template, messages, true) {
        // Nothing has to be told apart where nobody typed a control token.
        Err(TemplateError::Rewritten) if !any_special(&tokenizer, messages)? => {
            vec![OwnedPiece::Template(template::render_text(&template, messages, true)?)]
        }
        rendered => rendered?,
    };
    let (mut text, mut typed) = (String::new(), Vec::new());
    for piece in &pieces {
        let from = text.len();
        text.push_str(piece.text());
        if matches!(piece, OwnedPiece::Content(_)) {
            typed.push(from..text.len());
        }
    }
    // In one go, as transformers does: a word may begin in the template and end in a message.
    Ok(encode_typed(&tokenizer, &text, &typed)?)
}

fn any_special(tokenizer: &Tokenizer<'_>, messages: &[Message<'_>]) -> Result<bool, ChatError> {
    for message in messages {
        if has_special(tokenizer, message.text)? {
            return Ok(true);
        }
    }
    Ok(false)
}

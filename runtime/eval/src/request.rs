//! A context and its continuation as tokens, split as lm-evaluation-harness splits them.

use thimble_chat::{encode, encode_text, end_of_text};
use thimble_runtime::Token;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::{EncodeError, Specials};

/// The tokens of a context and a continuation, whose log-likelihood is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Context and continuation.
    pub tokens: Vec<Token>,
    /// Index of the continuation's first token.
    pub from: usize,
}

/// Why a text cannot become a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The model's tokenizer refused a text.
    #[error("the tokenizer failed: {0}")]
    Encode(#[from] EncodeError),
    /// An empty context for a model without an end-of-text token.
    #[error("the text is empty, and this model has no token that an empty text could begin with")]
    NoBeginning,
}

/// A continuation that is longer than the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the continuation has {found} tokens, more than the context of {context}")]
pub struct TooLong {
    /// Tokens of the continuation.
    pub found: usize,
    /// Positions of the context.
    pub context: usize,
}

/// White space as Python's `str.strip` has it.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Moves white space from the end of the context to the front of the continuation.
fn split<'a>(context: &'a str, continuation: &str) -> (&'a str, String) {
    let trimmed = context.trim_end_matches(is_blank);
    (trimmed, format!("{}{continuation}", &context[trimmed.len()..]))
}

/// Whether the prompt spells out a begin-of-text token with these bytes; one without bytes cannot be spelled out.
fn begins_with(prompt: &str, bos: &[u8]) -> bool {
    !bos.is_empty() && prompt.as_bytes().starts_with(bos)
}

/// The tokens of a prompt as the harness's `HFLM` encodes it: those of [`encode_text`], but without a second begin-of-text token if
/// the prompt spells one out.
pub(crate) fn encode_prompt(file: &ModelFile<'_>, prompt: &str) -> Result<Vec<Token>, EncodeError> {
    let (tokenizer, config) = (file.tokenizer(), file.config());
    let spelled = config.bos.is_some_and(|bos| begins_with(prompt, tokenizer.token_bytes(bos)));
    if spelled {
        encode(&tokenizer, prompt, Specials::Parse)
    } else {
        encode_text(&tokenizer, config, prompt, Specials::Parse)
    }
}

impl Request {
    /// Tokenizes as the harness does: white space at the end of the context belongs to the continuation, and the
    /// continuation's tokens are those of the whole text after those of the context. A begin-of-text token that the tokenizer
    /// adds belongs to the context; without one [`end_of_text`] replaces an empty context.
    pub fn new(file: &ModelFile<'_>, context: &str, continuation: &str) -> Result<Request, RequestError> {
        let (context, continuation) = split(context, continuation);
        let mut tokens = encode_prompt(file, context)?;
        let whole = encode_prompt(file, &format!("{context}{continuation}"))?;
        let rest = whole.get(tokens.len()..).unwrap_or_default();
        if tokens.is_empty() {
            tokens.push(end_of_text(file).ok_or(RequestError::NoBeginning)?);
        }
        let from = tokens.len();
        tokens.extend(rest);
        Ok(Request { tokens, from })
    }

    /// Truncates from the left until all tokens but the last fit the context.
    pub fn fit(mut self, context: usize) -> Result<Request, TooLong> {
        let surplus = self.tokens.len().saturating_sub(context + 1);
        if surplus >= self.from {
            return Err(TooLong { found: self.continuation_len(), context });
        }
        self.tokens.drain(..surplus);
        self.from -= surplus;
        Ok(self)
    }

    /// Tokens of the continuation.
    pub fn continuation_len(&self) -> usize {
        self.tokens.len() - self.from
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, begins_with, split};
    use thimble_runtime::Token;

    #[test]
    fn white_space_moves_to_the_continuation() {
        let cases = [
            ("a b", " c", "a b", " c"),
            ("a \n\t", "c", "a", " \n\tc"),
            (" ", "c", "", " c"),
            ("", "c", "", "c"),
            ("a\u{1f}\u{a0}", "c", "a", "\u{1f}\u{a0}c"),
        ];
        for (context, continuation, trimmed, moved) in cases {
            assert_eq!(split(context, continuation), (trimmed, moved.to_string()));
        }
    }

    #[test]
    fn only_a_token_with_bytes_is_spelled_out() {
        assert!(begins_with("<s>a", b"<s>"));
        assert!(!begins_with("a<s>", b"<s>") && !begins_with("a", b"") && !begins_with("", b""));
    }

    #[test]
    fn too_long_drops_from_the_left() {
        let request = |length: u32, from| Request { tokens: (0..length).map(Token).collect(), from };
        assert_eq!(request(9, 5).fit(8).unwrap(), request(9, 5), "the last token is not computed");
        let cut = request(12, 8).fit(8).unwrap();
        assert_eq!((cut.tokens[0], cut.tokens.len(), cut.from), (Token(3), 9, 5));
        assert!(request(12, 3).fit(8).unwrap_err().to_string().contains("9 tokens"));
    }
}

//! What is shown of a generated text, and the calls of tools in it.

use thimble_chat::tools::{CallParser, CallPiece, ToolCall};
use thimble_chat::{AnswerPiece, ReasoningSplitter, Toolset};
use thimble_runtime::Token;
use thimble_runtime::tokenizer::Tokenizer;

/// An answer as it is made.
pub(super) struct Answer {
    /// Tells calls apart, if there may be any.
    parser: Option<CallParser>,
    /// Tells reasoning apart, if it is left out.
    splitter: Option<ReasoningSplitter>,
    /// What is shown.
    pub(super) text: String,
    /// The calls so far.
    pub(super) calls: Vec<ToolCall>,
    /// What looked like calls and is text.
    pub(super) invalid: Vec<String>,
}

impl Answer {
    /// The answer to `prompt`; `hidden` leaves reasoning out.
    pub(super) fn new(
        hidden: bool,
        tools: Option<&Toolset>,
        tokenizer: &Tokenizer<'_>,
        prompt: &[Token],
    ) -> Answer {
        let bytes = |token: Token| tokenizer.token_bytes(token);
        Answer {
            parser: tools.and_then(Toolset::parser),
            splitter: hidden.then(|| ReasoningSplitter::after(prompt, bytes)),
            text: String::new(),
            calls: Vec::new(),
            invalid: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) {
        match self.parser.take() {
            None => self.push_text(piece),
            Some(mut parser) => {
                parser.push(piece, &mut |piece| self.emit(piece));
                self.parser = Some(parser);
            }
        }
    }

    /// Takes what a later piece would have decided on.
    pub(super) fn finish(&mut self) {
        if let Some(mut parser) = self.parser.take() {
            parser.finish(&mut |piece| self.emit(piece));
        }
        if let Some(splitter) = &mut self.splitter {
            splitter.finish(&mut |piece| append(piece, &mut self.text));
        }
    }

    fn emit(&mut self, piece: CallPiece<'_>) {
        match piece {
            CallPiece::Text(text) => self.push_text(text),
            CallPiece::Call(call) => {
                let id = format!("call_{}", self.calls.len() + 1);
                self.calls.push(ToolCall { id, ..call });
            }
            CallPiece::Invalid(error) => self.invalid.push(error.to_string()),
        }
    }

    fn push_text(&mut self, piece: &str) {
        match &mut self.splitter {
            Some(splitter) => splitter.push(piece, &mut |piece| append(piece, &mut self.text)),
            None => self.text.push_str(piece),
        }
    }
}

fn append(piece: AnswerPiece<'_>, shown: &mut String) {
    if let AnswerPiece::Text(text) = piece {
        shown.push_str(text);
    }
}

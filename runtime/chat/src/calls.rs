//! Calls in an answer as it is made: they are reported, and are no part of its text.

use crate::conversation::{Conversation, Turn};
use crate::event::ChatEvent;
use crate::prompt::Toolset;
use crate::tools::{CallParser, CallPiece, ToolCall, ToolRound};

/// The text of an answer, apart from the calls in it.
pub(crate) struct AnswerText {
    /// `None` if there are no tools: then all is text.
    parser: Option<CallParser>,
    text: String,
    calls: Vec<ToolCall>,
    /// The number of the next call in the conversation.
    next: usize,
}

impl AnswerText {
    /// No text yet, of the answer to `turn`.
    pub(crate) fn new(tools: Option<&Toolset>, conversation: &Conversation, turn: &Turn) -> AnswerText {
        let parser = tools.and_then(Toolset::parser);
        let in_turn = turn.rounds.iter().flat_map(|round| &round.calls);
        let numbers = conversation.calls().chain(in_turn).filter_map(|call| number(&call.id));
        // Only a parser finds calls.
        let next = if parser.is_some() { numbers.max().unwrap_or(0).saturating_add(1) } else { 0 };
        AnswerText { parser, text: String::new(), calls: Vec::new(), next }
    }

    /// Shows the next piece.
    pub(crate) fn push<E>(
        &mut self,
        piece: &str,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.parser.take() {
            None if piece.is_empty() => Ok(()),
            None => show(ChatEvent::Text(piece)),
            Some(mut parser) => {
                let mut shown = Ok(());
                parser.push(piece, &mut |piece| self.emit(piece, &mut shown, show));
                self.parser = Some(parser);
                shown
            }
        }
    }

    /// Shows what a later piece would have decided on.
    pub(crate) fn finish<E>(
        &mut self,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut parser) = self.parser.take() else { return Ok(()) };
        let mut shown = Ok(());
        parser.finish(&mut |piece| self.emit(piece, &mut shown, show));
        self.parser = Some(parser);
        shown
    }

    fn emit<E>(
        &mut self,
        piece: CallPiece<'_>,
        shown: &mut Result<(), E>,
        show: &mut dyn FnMut(ChatEvent<'_>) -> Result<(), E>,
    ) {
        // After an error nothing is shown, but calls are still read.
        let mut show = |event: ChatEvent<'_>| {
            if shown.is_ok() {
                *shown = show(event);
            }
        };
        match piece {
            CallPiece::Text(text) => {
                self.text.push_str(text);
                show(ChatEvent::Text(text));
            }
            CallPiece::Call(call) => {
                let call = ToolCall { id: format!("call_{}", self.next), ..call };
                self.next = self.next.saturating_add(1);
                show(ChatEvent::Call(&call));
                self.calls.push(call);
            }
            CallPiece::Invalid(error) => show(ChatEvent::InvalidCall(&error)),
        }
    }

    /// Adds the answer to its turn; `whole` is all that the model wrote. Returns the number of calls.
    pub(crate) fn end(self, whole: String, turn: &mut Turn) -> usize {
        let text = if self.parser.is_some() { self.text } else { whole };
        let calls = self.calls.len();
        match calls {
            0 => turn.answer = text,
            _ => turn.rounds.push(ToolRound { text, calls: self.calls, results: Vec::new() }),
        }
        calls
    }
}

/// The number in an id of [`AnswerText`].
fn number(id: &str) -> Option<usize> {
    id.strip_prefix("call_")?.parse().ok()
}

//! Tells calls in an answer from its text, as the answer arrives.

use super::ToolDefinition;
use super::values::{CLOSE, CallSyntax, OPEN, PYTHON_TAG, ToolCall};
use serde_json::{Deserializer, Value};
use std::sync::Arc;
use thiserror::Error;

/// A piece of an answer that may have calls.
#[derive(Debug, PartialEq, Eq)]
pub enum CallPiece<'a> {
    /// Text to show, also reasoning with its tags.
    Text(&'a str),
    /// A call; its id is empty.
    Call(ToolCall),
    /// What looked like a call follows as text.
    Invalid(CallError),
}

/// Why a part of an answer that looked like a call is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// Not the JSON of a call.
    #[error("the model wrote a call that cannot be read: {reason}")]
    Malformed {
        /// What was expected.
        reason: String,
    },
    /// A tool that does not exist.
    #[error("the model called {name:?}, which is no tool: expected one of {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The tools' names.
        known: Vec<String>,
    },
}

/// Splits an answer into text and calls. Calls are looked for behind the reasoning only; white space beside them belongs to
/// neither. A part that looks like a call and is none becomes text, behind a [`CallPiece::Invalid`].
#[derive(Debug)]
pub struct CallParser {
    syntax: CallSyntax,
    tools: Arc<[ToolDefinition]>,
    state: State,
    /// What a later piece decides on.
    held: String,
    /// White space before the tagged call at hand.
    gap: String,
    /// How much of a call was searched for its end.
    searched: usize,
    /// Whether text was emitted.
    spoken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first character; whether reasoning may follow.
    Start { thinks: bool },
    /// In the reasoning, with its tags.
    Reasoning,
    /// In text.
    Text,
    /// Behind `<tool_call>`.
    Tagged,
    /// In a bare call, up to the end of the answer.
    Bare,
    /// Behind a call, before the first character that follows.
    Called,
}

const THINK: &str = "<think>";
const END_THINK: &str = "</think>";

impl CallParser {
    /// A parser for an answer of a model that may call `tools`.
    pub fn new(syntax: CallSyntax, tools: Arc<[ToolDefinition]>) -> CallParser {
        let state = State::Start { thinks: syntax == CallSyntax::Tagged };
        let (held, gap) = (String::new(), String::new());
        CallParser { syntax, tools, state, held, gap, searched: 0, spoken: false }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str, emit: &mut dyn FnMut(CallPiece<'_>)) {
        self.held.push_str(piece);
        while self.step(emit) {}
    }

    /// Ends the answer: an unfinished call is text, unless only its end mark is missing.
    pub fn finish(&mut self, emit: &mut dyn FnMut(CallPiece<'_>)) {
        match self.state {
            State::Start { .. } | State::Reasoning | State::Text => self.text(self.held.len(), emit),
            State::Called => {
                self.held.drain(..self.held.len() - self.held.trim_start().len());
                self.rejoin();
                self.text(self.held.len(), emit);
            }
            State::Tagged => {
                let calls = calls(&self.held);
                self.close(calls.map_err(|fault| fault.reason), self.held.len(), "", emit);
                self.text(self.held.len(), emit);
            }
            State::Bare => self.bare(emit),
        }
        self.state = State::Text;
    }

    /// Decides on the beginning of what is held; false if it needs more.
    fn step(&mut self, emit: &mut dyn FnMut(CallPiece<'_>)) -> bool {
        match self.state {
            State::Start { thinks } => {
                let begun = self.held.trim_start();
                let bare = self.syntax == CallSyntax::Bare;
                let undecided = |mark: &str| mark.len() > begun.len() && mark.starts_with(begun);
                if (thinks && undecided(THINK)) || (bare && undecided(PYTHON_TAG)) || begun.is_empty() {
                    return false;
                }
                self.state = if thinks && begun.starts_with(THINK) {
                    State::Reasoning
                } else if bare && (begun.starts_with('{') || begun.starts_with(PYTHON_TAG)) {
                    State::Bare
                } else {
                    State::Text
                };
                true
            }
            State::Reasoning => match self.held.find(END_THINK) {
                Some(at) => {
                    self.text(at + END_THINK.len(), emit);
                    self.state = State::Start { thinks: false };
                    true
                }
                None => {
                    self.text(self.held.len() - partial(&self.held, END_THINK), emit);
                    false
                }
            },
            // Then a call is the whole answer.
            State::Text if self.syntax == CallSyntax::Bare => {
                self.text(self.held.len(), emit);
                false
            }
            State::Text => match self.held.find(OPEN) {
                Some(at) => {
                    self.text(self.held[..at].trim_end().len(), emit);
                    let space = self.held.len() - self.held.trim_start().len();
                    self.gap = self.held.drain(..space).collect();
                    self.held.drain(..OPEN.len());
                    (self.state, self.searched) = (State::Tagged, 0);
                    true
                }
                None => {
                    let kept = self.held.len() - partial(&self.held, OPEN);
                    self.text(self.held[..kept].trim_end().len(), emit);
                    false
                }
            },
            State::Tagged => self.tagged(emit),
            State::Called => {
                let begun = self.held.trim_start();
                if begun.is_empty() || (OPEN.len() > begun.len() && OPEN.starts_with(begun)) {
                    return false;
                }
                self.held.drain(..self.held.len() - begun.len());
                self.rejoin();
                self.state = State::Text;
                true
            }
            State::Bare => false,
        }
    }

    /// Looks for the end of a tagged call. The end mark may stand in a string: then the JSON before it is unfinished.
    fn tagged(&mut self, emit: &mut dyn FnMut(CallPiece<'_>)) -> bool {
        let Some(at) = self.held[self.searched..].find(CLOSE).map(|at| self.searched + at) else {
            self.searched = self.held.len() - partial(&self.held, CLOSE);
            return false;
        };
        match calls(&self.held[..at]) {
            Err(fault) if fault.unfinished => self.searched = at + CLOSE.len(),
            found => self.close(found.map_err(|fault| fault.reason), at, CLOSE, emit),
        }
        true
    }

    /// Ends the tagged call at `at`, where `mark` follows: emits its calls, or itself as text.
    fn close(
        &mut self,
        found: Result<Vec<ToolCall>, String>,
        at: usize,
        mark: &str,
        emit: &mut dyn FnMut(CallPiece<'_>),
    ) {
        let end = at + mark.len();
        match found.map_err(|reason| CallError::Malformed { reason }).and_then(|calls| self.known(calls)) {
            Ok(calls) => {
                calls.into_iter().for_each(|call| emit(CallPiece::Call(call)));
                self.held.drain(..end);
                self.state = State::Called;
            }
            Err(error) => {
                emit(CallPiece::Invalid(error));
                self.held.insert_str(0, OPEN);
                self.held.insert_str(0, &self.gap);
                self.text(self.gap.len() + OPEN.len() + end, emit);
                self.state = State::Text;
            }
        }
    }

    /// Ends an answer that began like a bare call. JSON that is no call is an ordinary answer.
    fn bare(&mut self, emit: &mut dyn FnMut(CallPiece<'_>)) {
        let begun = self.held.trim_start();
        let tagged = begun.starts_with(PYTHON_TAG);
        let body = begun.strip_prefix(PYTHON_TAG).unwrap_or(begun).trim_start();
        let mut calls = Vec::new();
        let mut rest = body;
        let mut fault = None;
        while rest.starts_with('{') {
            let mut values = Deserializer::from_str(rest).into_iter::<Value>();
            let call = match values.next() {
                Some(Ok(value)) => ToolCall::read(value).map_err(str::to_owned),
                Some(Err(error)) => Err(error.to_string()),
                None => break,
            };
            match call {
                Ok(call) => calls.push(call),
                Err(reason) => {
                    fault = Some(reason);
                    break;
                }
            }
            let after = rest[values.byte_offset()..].trim_start();
            rest = after.strip_prefix([';', ',']).unwrap_or(after).trim_start();
        }
        let rest = rest.len();
        if calls.is_empty() {
            let named = |fields: &str| fields.trim_start().starts_with("\"name\"");
            let looks = tagged || body.strip_prefix('{').is_some_and(named);
            if looks {
                let reason =
                    fault.unwrap_or_else(|| "expected a JSON object with name and parameters".to_owned());
                emit(CallPiece::Invalid(CallError::Malformed { reason }));
            }
            return self.text(self.held.len(), emit);
        }
        match self.known(calls) {
            Ok(calls) => {
                calls.into_iter().for_each(|call| emit(CallPiece::Call(call)));
                self.held.drain(..self.held.len() - rest);
            }
            Err(error) => emit(CallPiece::Invalid(error)),
        }
        self.text(self.held.len(), emit);
    }

    /// The calls, if their tools exist.
    fn known(&self, calls: Vec<ToolCall>) -> Result<Vec<ToolCall>, CallError> {
        match calls.iter().find(|call| self.tools.iter().all(|tool| tool.name != call.name)) {
            None => Ok(calls),
            Some(call) => {
                let known = self.tools.iter().map(|tool| tool.name.clone()).collect();
                Err(CallError::Unknown { name: call.name.clone(), known })
            }
        }
    }

    /// Separates the text behind a call from the text before it.
    fn rejoin(&mut self) {
        if self.spoken && !self.held.is_empty() && !self.held.starts_with(OPEN) {
            self.held.insert(0, '\n');
        }
    }

    /// Emits the first `len` bytes of what is held as text.
    fn text(&mut self, len: usize, emit: &mut dyn FnMut(CallPiece<'_>)) {
        if len > 0 {
            emit(CallPiece::Text(&self.held[..len]));
            self.held.drain(..len);
            self.spoken = true;
        }
    }
}

/// Why text is no call.
struct Fault {
    reason: String,
    /// Whether more text might make it one.
    unfinished: bool,
}

/// The calls between two tags: an object, or a list of them.
fn calls(text: &str) -> Result<Vec<ToolCall>, Fault> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Fault { reason: error.to_string(), unfinished: error.is_eof() })?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let calls: Result<Vec<ToolCall>, &str> = values.into_iter().map(ToolCall::read).collect();
    calls.map_err(|reason| Fault { reason: reason.to_owned(), unfinished: false })
}

/// How many bytes at the end of `text` begin `mark` without finishing it.
fn partial(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|&length| text.ends_with(&mark[..length])).unwrap_or(0)
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;

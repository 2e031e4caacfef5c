//! Errors of a chat.

use crate::template::TemplateError;
use crate::tools::ToolError;
use std::io;
use std::path::PathBuf;
use thimble_runtime::chat::Role;
use thimble_runtime::session::SessionError;
use thimble_runtime::stop::StopError;
use thimble_runtime::tokenizer::EncodeError;
use thiserror::Error;

/// Why a conversation cannot continue, be saved or be read.
#[derive(Debug, Error)]
pub enum ChatError {
    /// A message is longer than the context.
    #[error(
        "this message (with the system prompt) has {found} tokens, but the context has room for {room}: shorten it"
    )]
    TooLong {
        /// Its tokens, with those that the template adds.
        found: usize,
        /// Tokens that would fit.
        room: usize,
    },
    /// The model has no chat template.
    #[error("this model has no chat template: it continues text, but does not answer messages")]
    NoTemplate,
    /// The template fails or refuses.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Tools cannot be offered.
    #[error(transparent)]
    Tools(#[from] ToolError),
    /// A message while calls wait.
    #[error("the model's calls wait for their results: send those first, or take the message back")]
    CallsWait,
    /// Results of no calls.
    #[error("there are results, but no calls wait for any: send a message instead")]
    NoCalls,
    /// Too many results, or too few.
    #[error("found {found} results, expected one for each of the model's {expected} calls, in their order")]
    Results {
        /// The number of calls.
        expected: usize,
        /// The number of results.
        found: usize,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer failed: {0}")]
    Encode(#[from] EncodeError),
    /// An invalid stop sequence.
    #[error(transparent)]
    Stops(#[from] StopError),
    /// The constraint of an answer failed.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// Messages out of order.
    #[error(transparent)]
    Messages(#[from] MessageOrderError),
    /// The session was evicted during an answer; [`crate::ChatSession::continue_answer`] continues in another session.
    #[error("the session was evicted during an answer")]
    Evicted,
    /// The session cannot continue.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// An I/O error.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file that does not hold a conversation.
    #[error("{}, line {line}: {reason}", path.display())]
    NotAConversation {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
}

/// Why messages are no conversation with a message to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageOrderError {
    /// A message of another role than expected.
    #[error(
        "message {number} has the role {}, expected {}: a system message may come first, then user and assistant alternate",
        found.name(), expected.name()
    )]
    Role {
        /// Its number, from 1.
        number: usize,
        /// The role that it should have.
        expected: Role,
        /// Its role.
        found: Role,
    },
    /// Nothing is left to answer.
    #[error("the messages end without one to answer: the last has to have the role user")]
    NothingToAnswer,
}

/// Why a constraint cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConstraintError {
    /// A limit of the grammar was reached during an answer.
    #[error("the grammar of this answer is too complex: {reason}; simplify it, or shorten the answer")]
    TooComplex {
        /// Which limit, in words.
        reason: String,
    },
    /// No token of the vocabulary continues the answer.
    #[error(
        "no token of this model continues the answer, although its grammar allows more text: the vocabulary lacks a byte"
    )]
    NoToken,
    /// A token that the mask did not allow.
    #[error("the grammar does not allow token {found} here; expected one that the mask allows")]
    Refused {
        /// The token's id.
        found: u32,
    },
}

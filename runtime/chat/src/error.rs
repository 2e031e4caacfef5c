//! Why a chat cannot go on.

use crate::template::TemplateError;
use std::io;
use std::path::PathBuf;
use thimble_runtime::session::SessionError;
use thimble_runtime::stop::StopError;
use thimble_runtime::tokenizer::EncodeError;
use thiserror::Error;

/// Why a conversation cannot go on, or be kept.
#[derive(Debug, Error)]
pub enum ChatError {
    /// A message is longer than the context.
    #[error(
        "this message (with the instructions) has {found} tokens, but the context has room for {room}: shorten it"
    )]
    TooLong {
        /// Its tokens, with what the template adds.
        found: usize,
        /// Tokens that fit.
        room: usize,
    },
    /// The model was not made for conversations.
    #[error("this model has no chat template: it continues text, but does not answer messages")]
    NoTemplate,
    /// The model's template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer refused a text.
    #[error("the tokenizer failed: {0}")]
    Encode(#[from] EncodeError),
    /// A text to stop at that cannot be one.
    #[error(transparent)]
    Stops(#[from] StopError),
    /// The session's memory is wanted back while an answer is made: [`ChatSession::go_on`] goes on with another session.
    #[error("the session was taken back while an answer was made")]
    Withdrawn,
    /// The session cannot go on.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that holds no conversation.
    #[error("{}, line {line}: {reason}", path.display())]
    NotAConversation {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
}

//! What an app hears of an answer.

use crate::ApiError;
use thimble_chat::{Answer, End};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum Finish {
    /// The model ended it, or a text that ends answers was reached.
    Stop,
    /// It reached the most tokens allowed.
    Length,
    /// The context is full.
    Context,
    /// It was stopped: by `cancel`, by a listener that failed, or because its object is gone.
    #[default]
    Cancelled,
}

impl From<End> for Finish {
    fn from(end: End) -> Finish {
        match end {
            End::Stop => Finish::Stop,
            End::Length => Finish::Length,
            End::Context => Finish::Context,
            End::Interrupted => Finish::Cancelled,
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, uniffi::Record)]
pub struct Reply {
    /// All pieces after each other.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Oldest turns that gave way, because the context was full.
    pub forgotten_turns: u32,
    /// Prompt tokens that were computed already.
    pub reused_tokens: u32,
    /// Prompt tokens computed.
    pub prompt_tokens: u32,
    /// Seconds for those.
    pub prompt_seconds: f64,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Seconds for those.
    pub seconds: f64,
}

impl Reply {
    /// The figures of an answer.
    pub(crate) fn new(answer: &Answer) -> Reply {
        Reply {
            finish: answer.end.into(),
            reused_tokens: answer.reused as u32,
            prompt_tokens: answer.prefilled as u32,
            prompt_seconds: answer.prefill_time.as_secs_f64(),
            tokens: answer.decoded as u32,
            seconds: answer.decode_time.as_secs_f64(),
            ..Reply::default()
        }
    }
}

/// A listener failed.
#[derive(Clone, Debug, thiserror::Error, uniffi::Error)]
pub enum ListenerError {
    /// It threw something; the answer is stopped, and nothing else happens.
    #[error("the listener failed: {reason}")]
    Failed {
        /// What it threw.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for ListenerError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> ListenerError {
        ListenerError::Failed { reason: error.reason }
    }
}

/// Hears of one answer, on the worker's thread: pieces in order, then one end or one error.
#[uniffi::export(with_foreign)]
pub trait Listener: Send + Sync {
    /// More text. Whole characters.
    fn on_piece(&self, text: String) -> Result<(), ListenerError>;
    /// How much of a long prompt has been read, in tokens: before the first piece, and between two where the context is full
    /// or was given back in a pause.
    fn on_progress(&self, done: u32, of: u32) -> Result<(), ListenerError>;
    /// The answer is complete or stopped.
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError>;
    /// The answer failed. Usually nothing was shown; where pieces were (a journal's disk is full), they stay.
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError>;
}

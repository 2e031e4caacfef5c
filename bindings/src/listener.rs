//! What an app hears of an answer while it is made.

use crate::{ApiError, Reply};

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

/// Receives one answer, on the worker's thread: pieces in order, then exactly one end or one error.
#[uniffi::export(with_foreign)]
pub trait Listener: Send + Sync {
    /// More of the answer. Whole characters.
    fn on_piece(&self, text: String) -> Result<(), ListenerError>;
    /// More of the model's reasoning, which comes before the answer. Whole characters.
    fn on_reasoning(&self, text: String) -> Result<(), ListenerError>;
    /// How much of a long prompt has been read, in tokens: before the first piece, and between pieces where the context is
    /// full or its memory was given back in a pause.
    fn on_progress(&self, done: u32, of: u32) -> Result<(), ListenerError>;
    /// The answer is complete or stopped.
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError>;
    /// The answer failed. Usually nothing was shown; pieces that were shown (a journal's disk is full) stay.
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError>;
}

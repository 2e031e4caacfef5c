//! What a worker asks of its thread, and the state that both share.

use crate::busy::Busy;
use crate::gate::Gate;
use crate::listener::Listener;
use crate::probabilities::Sampled;
use crate::{AnswerOptions, ApiError, Stats, ToolResult};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thimble_chat::{Conversation, ReasoningSplitter, Turn};
use thimble_runtime::Token;

/// Something for the thread to do.
pub(super) enum Request {
    /// Answer a message.
    Answer(Box<AnswerRequest>),
    /// Go on with another conversation, which has this number.
    Replace(Conversation, u64),
    /// Give the session's memory back, for the memory request with this number.
    Free(u64),
    /// Write keys and values to disk, if there is a file for them.
    Keep,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A message.
    Message(String),
    /// What tools returned.
    Results(Vec<ToolResult>),
    /// The last message again.
    Again,
}

/// Something to answer.
pub(super) struct AnswerRequest {
    pub(super) ask: Ask,
    pub(super) options: AnswerOptions,
    /// Whether the options are valid and the message was written to the journal.
    pub(super) accepted: Result<(), ApiError>,
    /// The answer so far, if an earlier session began it.
    pub(super) partial: Option<PartialAnswer>,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) cancelled: Arc<AtomicBool>,
    /// The last field: the listener is dropped before.
    pub(super) busy: Busy,
}

impl AnswerRequest {
    /// Whether the journal holds it as a message that waits.
    pub(super) fn waits(&self) -> bool {
        matches!(self.ask, Ask::Message(_)) && self.accepted.is_ok() && self.partial.is_none()
    }

    /// Longest answer in tokens, where `default` holds unless the request says otherwise.
    pub(super) fn most_tokens(&self, default: Option<usize>) -> usize {
        self.options.max_tokens.map_or(default.unwrap_or(usize::MAX), |most| most as usize)
    }
}

/// An unfinished answer; one session or several make it.
#[derive(Default)]
pub(super) struct PartialAnswer {
    /// What it answers: a message, and the results of calls so far.
    pub(super) turn: Turn,
    /// Tokens of the answer so far.
    pub(super) tokens: Vec<Token>,
    /// Text that was shown so far, with its reasoning.
    pub(super) shown: String,
    /// Whether it may begin with reasoning, which `splitter` tells apart.
    pub(super) has_reasoning: bool,
    /// Tells its reasoning apart.
    pub(super) splitter: ReasoningSplitter,
    /// Turns that were dropped to make room.
    pub(super) forgotten: usize,
    /// What the model thought of its tokens, where that was asked for.
    pub(super) sampled: Vec<Sampled>,
    /// Time spent in earlier sessions.
    pub(super) spent: Duration,
}

/// The conversation as of the last complete answer.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) conversation: Conversation,
    /// Counts replaced conversations: an answer to an older one does not belong to this one.
    pub(super) number: u64,
    /// Of the last answer.
    pub(super) stats: Stats,
}

/// What a worker and its thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) latest: Mutex<Latest>,
    pub(super) gate: Gate,
}

impl Shared {
    pub(super) fn latest(&self) -> MutexGuard<'_, Latest> {
        lock(&self.latest)
    }
}

/// Locks, poisoned or not: no holder can leave anything half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

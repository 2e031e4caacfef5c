//! A thread that owns a session: requests go in, answers come out.

mod begin;
mod request;
mod thread;

use crate::busy::Busy;
use crate::gate::Gate;
use crate::journal::Journal;
use crate::listener::Listener;
use crate::{AnswerOptions, ApiError, Stats};
pub(crate) use request::Ask;
use request::{AnswerRequest, Latest, Request, Shared, lock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use thimble_chat::Conversation;
pub(crate) use thread::{Form, SessionSource, WorkerOptions};

/// One answer, to stop it and no other. Dropping this does not stop the answer.
#[derive(Debug, uniffi::Object)]
#[uniffi(name = "Answer")]
pub struct AnswerHandle {
    cancelled: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

#[uniffi::export(name = "Answer")]
impl AnswerHandle {
    /// Stops this answer, even if it waits or is paused; its listener gets the end. Does nothing once it is complete.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.shared.gate.nudge();
    }
}

/// The outside of a thread that answers. Once this is dropped the thread ends as soon as it can; the drop does not wait.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    requests: Mutex<Requests>,
    journal: Option<Journal>,
    threads: usize,
}

/// Locked while a request is sent, so that requests and their flags have the same order.
#[derive(Debug)]
struct Requests {
    sender: Sender<Request>,
    /// Flags of answers that are not complete.
    flags: Vec<Weak<AtomicBool>>,
}

impl Requests {
    fn send(&self, request: Request) {
        // The thread ends only after the last sender is gone.
        let _ = self.sender.send(request);
    }

    fn cancel(&mut self) {
        for flag in self.flags.drain(..).filter_map(|flag| flag.upgrade()) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

impl Worker {
    /// Starts the thread `name`, which continues `conversation` with at most `threads` threads.
    pub(crate) fn start(
        name: &str,
        conversation: Conversation,
        threads: usize,
        options: WorkerOptions,
    ) -> Result<Worker, ApiError> {
        let shared = Arc::new(Shared {
            latest: Mutex::new(Latest { conversation, number: 0, stats: Stats::default() }),
            gate: Gate::new(threads),
        });
        let (sender, receiver) = channel();
        let journal = options.journal.clone();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || thread::run(options, &theirs, &receiver)).map_err(ApiError::other)?;
        Ok(Worker { shared, requests: Mutex::new(Requests { sender, flags: Vec::new() }), journal, threads })
    }

    /// Answers. A message is in the journal when this returns.
    pub(crate) fn ask(&self, ask: Ask, options: AnswerOptions, listener: Arc<dyn Listener>) -> AnswerHandle {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut requests = lock(&self.requests);
        requests.flags.retain(|flag| flag.strong_count() > 0);
        requests.flags.push(Arc::downgrade(&cancelled));
        let handle = AnswerHandle { cancelled: Arc::clone(&cancelled), shared: Arc::clone(&self.shared) };
        let accepted = options.check().and_then(|()| match (&self.journal, &ask) {
            (Some(journal), Ask::Message(text)) => journal.user(text),
            _ => Ok(()),
        });
        let (partial, busy) = (None, Busy::new());
        let request = AnswerRequest { ask, options, accepted, partial, listener, cancelled, busy };
        requests.send(Request::Answer(Box::new(request)));
        handle
    }

    /// Stops all answers that were requested so far.
    pub(crate) fn cancel(&self) {
        lock(&self.requests).cancel();
        self.shared.gate.nudge();
    }

    /// Stops all answers and continues with what `change` makes of the conversation.
    pub(crate) fn replace(&self, change: impl FnOnce(&Conversation) -> Conversation) {
        let mut requests = lock(&self.requests);
        requests.cancel();
        let mut latest = self.shared.latest();
        latest.conversation = change(&latest.conversation);
        latest.number += 1;
        requests.send(Request::Replace(latest.conversation.clone(), latest.number));
        drop((latest, requests));
        self.shared.gate.nudge();
    }

    /// The conversation as of the last complete answer.
    pub(crate) fn conversation(&self) -> Conversation {
        self.shared.latest().conversation.clone()
    }

    /// Figures of the last answer.
    pub(crate) fn stats(&self) -> Stats {
        self.shared.latest().stats
    }

    /// Pauses the thread, or resumes it.
    pub(crate) fn pause(&self, paused: bool) {
        self.shared.gate.pause(paused);
        if paused {
            lock(&self.requests).send(Request::Keep);
        }
    }

    /// Works with half the threads, or with all.
    pub(crate) fn save_power(&self, save: bool) {
        let threads = if save { self.threads.div_ceil(2) } else { self.threads };
        self.shared.gate.set_threads(threads);
    }

    /// Gives the session's memory back: after what was requested so far, or at once while work waits.
    pub(crate) fn free(&self) {
        let requests = lock(&self.requests);
        requests.send(Request::Free(self.shared.gate.request_memory()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.closing();
        }
        self.cancel();
        self.pause(false);
    }
}

#[cfg(test)]
mod tests;

//! For Rust only: a call that waits for the answer.

use crate::{AnswerOptions, ApiError, Chat, Listener, ListenerError, Reply};
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// Passes an answer to the thread that waits for it.
struct Forward(Sender<ControlFlow<Result<Reply, ApiError>, String>>);

impl Forward {
    fn send(&self, event: ControlFlow<Result<Reply, ApiError>, String>) -> Result<(), ListenerError> {
        self.0.send(event).map_err(|error| ListenerError::Failed { reason: error.to_string() })
    }
}

impl Listener for Forward {
    fn on_piece(&self, text: String) -> Result<(), ListenerError> {
        self.send(Continue(text))
    }
    fn on_reasoning(&self, _text: String) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_progress(&self, _done: u32, _of: u32) -> Result<(), ListenerError> {
        Ok(())
    }
    fn on_end(&self, reply: Reply) -> Result<(), ListenerError> {
        self.send(Break(Ok(reply)))
    }
    fn on_error(&self, error: ApiError) -> Result<(), ListenerError> {
        self.send(Break(Err(error)))
    }
}

impl Chat {
    /// Answers a message and waits for the whole answer; `on_piece` gets its text as it is made.
    ///
    /// # Errors
    /// Those that a [`Listener`] gets.
    pub fn answer(&self, text: &str, on_piece: impl FnMut(&str)) -> Result<Reply, ApiError> {
        self.answer_with(text, AnswerOptions::default(), on_piece)
    }

    /// [`Chat::answer`] with options.
    ///
    /// # Errors
    /// Those that a [`Listener`] gets.
    pub fn answer_with(
        &self,
        text: &str,
        options: AnswerOptions,
        mut on_piece: impl FnMut(&str),
    ) -> Result<Reply, ApiError> {
        let (sender, events) = channel();
        self.send(text.to_owned(), Arc::new(Forward(sender)), Some(options));
        for event in events {
            match event {
                Continue(piece) => on_piece(&piece),
                Break(end) => return end,
            }
        }
        Err(ApiError::Cancelled)
    }
}

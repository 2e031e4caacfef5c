//! A chat with a model in one file, for apps: the surface that Kotlin, Swift and Python see.
//!
//! [`Model`] is a file that was opened; [`Chat`] a conversation with it and [`Completion`] a text that is continued, each
//! on a thread of its own. No call here waits for the model: answers come to a [`Listener`]. Every object may be used
//! from any thread and dropped at any time. Opening a model or a journal, saving and restoring read or write a file:
//! milliseconds, but not for a thread that draws a screen.

mod busy;
mod chat;
mod claim;
mod completion;
mod error;
mod gate;
mod journal;
mod listener;
mod model;
mod sessions;
mod worker;

pub use busy::wait_until_idle;
pub use chat::{Chat, ChatOptions, Message, Sampling, Stats};
pub use completion::{Completion, CompletionOptions};
pub use error::ApiError;
pub use listener::{Finish, Listener, ListenerError, Reply};
pub use model::{Backend, KvCache, Model, ModelInfo, ModelOptions};
pub use worker::Answer;

uniffi::setup_scaffolding!();

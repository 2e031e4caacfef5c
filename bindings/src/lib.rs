//! Chats with a model in one file, for apps: the API that Kotlin, Swift and Python see.
//!
//! [`Model`] is an open file, [`Chat`] a conversation with it, [`Completion`] a text that it continues; each of those has a
//! thread of its own. Answers go to a [`Listener`]. The only calls that wait for the model are [`Model::embed`],
//! [`Model::log_probabilities`] and, for Rust alone, [`Chat::answer`]. Every object may be used from any thread and dropped at any time. Opening a model or a journal, saving and
//! restoring access a file: that takes milliseconds, but does not belong on a UI thread.

mod adapter;
mod blocking;
mod busy;
mod chat;
mod claim;
mod completion;
mod embedding;
mod error;
mod gate;
mod grammar;
mod journal;
mod listener;
mod message;
mod model;
mod options;
mod probabilities;
mod reply;
mod sampling;
mod sessions;
mod tool;
mod worker;

pub use adapter::{Adapter, AdapterWeight};
pub use busy::wait_until_idle;
pub use chat::{Chat, ChatOptions};
pub use completion::{Completion, CompletionOptions};
pub use embedding::Pooling;
pub use error::ApiError;
pub use listener::{Listener, ListenerError};
pub use message::Message;
pub use model::{Backend, KvCache, Model, ModelInfo, ModelOptions};
pub use options::{AnswerFormat, AnswerOptions, ToolChoice};
pub use probabilities::{AlternativeToken, TokenLogProbability};
pub use reply::{Finish, Reply, Stats};
pub use sampling::Sampling;
pub use tool::{ToolCall, ToolDefinition, ToolResult};
pub use worker::AnswerHandle;

uniffi::setup_scaffolding!();

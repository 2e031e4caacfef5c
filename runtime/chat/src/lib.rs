//! Chats: templates, conversations and how they are kept in files, and a session that answers one message after another.
//!
//! [`ChatSession`] works on any [`ChatModel`]; what runs the model is not in this crate.

mod conversation;
mod encode;
mod error;
mod recommended;
mod session;
pub mod template;

pub use conversation::{Conversation, Role, Saved, Turn};
pub use encode::{encode, encode_chat, encode_typed, end_of_text, has_special};
pub use error::ChatError;
pub use recommended::RecommendedSampling;
pub use session::{Answer, CHUNK, ChatEvent, ChatModel, ChatSession, End};

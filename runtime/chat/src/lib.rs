//! Chat templates, conversations and their files, calls of tools, reasoning, recommended sampling, and a session that answers
//! messages.
//!
//! [`ChatSession`] works with any [`ChatModel`]; this crate does not run models.

mod calls;
mod constraint;
mod conversation;
mod encode;
mod error;
mod event;
mod logit_bias;
mod message;
mod messages;
mod model;
mod prompt;
mod reasoning;
mod recommended;
mod saved;
mod session;
mod supervised;
pub mod template;
pub mod tools;

pub use constraint::{Step, TokenConstraint, TokenSource, next_tokens};
pub use conversation::{Conversation, Turn};
pub use encode::{decode, encode, encode_text, encode_typed, end_of_text, has_special};
pub use error::{ChatError, ConstraintError, MessageOrderError};
pub use event::{AnswerStats, ChatEvent, End};
pub use logit_bias::{BiasError, BiasTarget, token_biases};
pub use message::ChatMessage;
pub use model::{CPU_PREFILL, ChatModel};
pub use prompt::{ChatPrompt, Toolset, encode_chat};
pub use reasoning::{AnswerPiece, ReasoningSplitter, join_reasoning, opens_reasoning, split_reasoning};
pub use recommended::{RecommendedSampling, random_seed};
pub use saved::SavedConversation;
pub use session::{ChatSession, TOKEN_BYTES};
pub use supervised::{EncodedChat, encode_completion, encode_conversation, encode_prompt};

//! Chat templates, conversations and their files, reasoning, recommended sampling, and a session that answers messages.
//!
//! [`ChatSession`] works with any [`ChatModel`]; this crate does not run models.

mod constraint;
mod conversation;
mod encode;
mod error;
mod logit_bias;
mod messages;
mod model;
mod reasoning;
mod recommended;
mod session;
mod supervised;
pub mod template;

pub use constraint::{Step, TokenConstraint, next_tokens};
pub use conversation::{Conversation, SavedConversation, Turn};
pub use encode::{decode, encode, encode_chat, encode_text, encode_typed, end_of_text, has_special};
pub use error::{ChatError, ConstraintError, MessageOrderError};
pub use logit_bias::{BiasError, BiasTarget, token_biases};
pub use model::{CPU_PREFILL, ChatModel};
pub use reasoning::{AnswerPiece, ReasoningSplitter, join_reasoning, split_reasoning};
pub use recommended::{RecommendedSampling, random_seed};
pub use session::{AnswerStats, ChatEvent, ChatSession, End, TOKEN_BYTES};
pub use supervised::{EncodedChat, encode_completion, encode_conversation, encode_prompt};

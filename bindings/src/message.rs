//! Messages of a conversation, as apps see them.

use crate::journal::Held;
use crate::{ApiError, ToolCall, ToolResult};
use thimble_chat::{Conversation, Turn};

/// A message of the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct Message {
    /// Whether the user or the app wrote it, and not the model.
    pub from_user: bool,
    /// Its text, without reasoning.
    pub text: String,
    /// What the model thought before it answered; empty for the user's messages.
    #[uniffi(default = "")]
    pub reasoning: String,
    /// The tools that the model called; empty for the user's messages.
    #[uniffi(default = [])]
    pub tool_calls: Vec<ToolCall>,
    /// What tools returned, in place of a text; empty for the model's messages.
    #[uniffi(default = [])]
    pub tool_results: Vec<ToolResult>,
}

impl Message {
    /// A message of the user.
    pub fn user(text: impl Into<String>) -> Message {
        Message { from_user: true, text: text.into(), ..Message::default() }
    }

    /// A message of the model.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message { text: text.into(), ..Message::default() }
    }
}

/// The conversation of an app's own messages.
///
/// # Errors
/// Messages of the user and of the model do not alternate, or the first one is the model's.
pub(crate) fn begin(system: Option<String>, messages: Vec<Message>) -> Result<Held, ApiError> {
    let mut begun = Held { conversation: Conversation { system, turns: Vec::new() }, unanswered: None };
    for (index, message) in messages.into_iter().enumerate() {
        match (begun.unanswered.take(), message.from_user) {
            (None, true) => begun.unanswered = Some(message.text),
            (Some(user), false) => begun.conversation.turns.push(Turn { user, answer: answer(message) }),
            (before, _) => {
                let (expected, found) = match before {
                    Some(_) => ("the model's answer", "another message of the user"),
                    None => ("a message of the user", "one of the model"),
                };
                let number = index + 1;
                return Err(ApiError::other(format!("message {number}: expected {expected}, found {found}")));
            }
        }
    }
    Ok(begun)
}

/// An answer as the model wrote it: reasoning first, with its tags.
fn answer(message: Message) -> String {
    match message.reasoning.is_empty() {
        true => message.text,
        false => thimble_chat::join_reasoning(&message.reasoning, &message.text),
    }
}

/// The messages of a conversation.
pub(crate) fn messages(conversation: Conversation) -> Vec<Message> {
    let messages = conversation.turns.into_iter().flat_map(|turn| {
        let (reasoning, text) = thimble_chat::split_reasoning(&turn.answer);
        [Message::user(turn.user), Message { text, reasoning, ..Message::default() }]
    });
    messages.collect()
}

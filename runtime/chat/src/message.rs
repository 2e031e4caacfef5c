//! Messages of a conversation in which tools are called.

use crate::tools::ToolCall;
use std::borrow::Cow;
use thimble_runtime::chat::{Message, Role};

/// A message with what it says about calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage<'a> {
    /// Its author. A result is a tool's.
    pub role: Role,
    /// Its content; the result, if it is a tool's.
    pub text: Cow<'a, str>,
    /// The calls that an assistant's message makes.
    pub calls: &'a [ToolCall],
    /// The call whose result this is.
    pub result_of: Option<&'a ToolCall>,
}

impl<'a> ChatMessage<'a> {
    /// A message without calls.
    pub fn new(role: Role, text: impl Into<Cow<'a, str>>) -> ChatMessage<'a> {
        ChatMessage { role, text: text.into(), calls: &[], result_of: None }
    }

    /// Whether a template without tools has a place for it.
    pub fn is_plain(&self) -> bool {
        self.calls.is_empty() && self.role != Role::Tool
    }

    /// Role and content, without calls.
    pub fn message(&self) -> Message<'_> {
        Message { role: self.role, text: &self.text }
    }
}

impl<'a> From<Message<'a>> for ChatMessage<'a> {
    fn from(message: Message<'a>) -> ChatMessage<'a> {
        ChatMessage::new(message.role, message.text)
    }
}

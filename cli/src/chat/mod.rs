//! The conversation behind `thimble chat`: what is remembered, how it is fitted into the context, what the
//! commands mean. The terminal is [`crate::commands::chat`]'s business.

mod conversation;
mod dialogue;
mod slash;

pub(crate) use conversation::{Conversation, Role, Saved, Turn};
pub(crate) use dialogue::{Answer, Dialogue, End, Event, Voice};
pub(crate) use slash::{HELP, Input};

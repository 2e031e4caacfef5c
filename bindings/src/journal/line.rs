//! The format of a journal: lines of JSON.

use crate::ApiError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thimble_chat::{Conversation, Turn};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// A new conversation begins, with these instructions.
    Begin { system: Option<Cow<'a, str>> },
    /// A message, which waits for its answer.
    User(Cow<'a, str>),
    /// The answer to the oldest waiting message begins.
    Answer,
    /// The oldest waiting message is taken back.
    #[serde(rename = "dropped")]
    Withdrawn,
    /// The last message is answered again.
    Again,
    /// More of the answer.
    Piece(Cow<'a, str>),
    /// The answer ends; whether the turn is remembered.
    End { remembered: bool },
    /// The oldest turns are forgotten.
    Forget(usize),
    /// Another process opened the journal: no message waits any more.
    Opened,
}

/// How a journal begins.
pub(super) const START: &[u8] = b"{\"begin\":";

impl Line<'_> {
    pub(super) fn begin(system: Option<&str>) -> Line<'_> {
        Line::Begin { system: system.map(Cow::Borrowed) }
    }

    /// A complete turn.
    pub(super) fn turn(turn: &Turn) -> [Line<'_>; 4] {
        let (user, answer) = (Line::User((&*turn.user).into()), Line::Piece((&*turn.answer).into()));
        [user, Line::Answer, answer, Line::End { remembered: true }]
    }

    /// Appends the line to `bytes`.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> Result<(), ApiError> {
        serde_json::to_writer(&mut *bytes, self).map_err(ApiError::other)?;
        bytes.push(b'\n');
        Ok(())
    }
}

/// A whole journal.
pub(super) fn whole<'a>(
    conversation: &Conversation,
    waiting: impl Iterator<Item = &'a String>,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    Line::begin(conversation.system.as_deref()).put(&mut bytes)?;
    conversation.turns.iter().flat_map(Line::turn).try_for_each(|line| line.put(&mut bytes))?;
    for user in waiting {
        Line::User(user.into()).put(&mut bytes)?;
    }
    Ok(bytes)
}

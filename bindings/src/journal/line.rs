//! The format of a journal: lines of JSON.

use crate::ApiError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thimble_chat::tools::ToolCall;
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
    /// A call of a tool in the answer.
    Call(Cow<'a, ToolCall>),
    /// The results of the last turn's calls, in their order; the answer to them begins.
    Results(Cow<'a, [String]>),
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

    /// A whole turn; its last calls may wait for their results.
    pub(super) fn turn(turn: &Turn) -> Vec<Line<'_>> {
        let mut lines = vec![Line::User((&*turn.user).into()), Line::Answer];
        for round in &turn.rounds {
            lines.push(Line::Piece((&*round.text).into()));
            lines.extend(round.calls.iter().map(|call| Line::Call(Cow::Borrowed(call))));
            lines.push(Line::End { remembered: true });
            if !round.waits() {
                lines.push(Line::Results((&*round.results).into()));
            }
        }
        if !turn.waits() {
            lines.extend([Line::Piece((&*turn.answer).into()), Line::End { remembered: true }]);
        }
        lines
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

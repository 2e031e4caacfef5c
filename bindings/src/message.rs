//! Messages of a conversation, as apps see them.

use crate::journal::Held;
use crate::{ApiError, ToolCall, ToolResult};
use thimble_chat::tools::{self, ToolRound};
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

/// The conversation of an app's own messages, and what of it is not answered yet.
///
/// # Errors
/// Messages are not in turn: of the user or with the results of calls, then of the model.
pub(crate) fn begin(
    system: Option<String>,
    messages: Vec<Message>,
) -> Result<(Held, Option<Vec<ToolResult>>), ApiError> {
    let mut turns: Vec<Turn> = Vec::new();
    // The turn without an answer, and the results that it ends with.
    let (mut open, mut results): (Option<Turn>, Option<Vec<ToolResult>>) = (None, None);
    for (index, message) in messages.into_iter().enumerate() {
        let waits = open.as_ref().is_some_and(Turn::waits) && results.is_none();
        let expected = match &open {
            None => "a message of the user",
            Some(_) if waits => "the results of the calls",
            Some(_) => "the model's answer",
        };
        let found = match (message.from_user, message.tool_results.is_empty()) {
            (true, true) => "a message of the user",
            (true, false) => "the results of the calls",
            (false, _) => "the model's answer",
        };
        if expected != found {
            let number = index + 1;
            return Err(ApiError::other(format!("message {number}: expected {expected}, found {found}")));
        }
        match open.take() {
            None => open = Some(Turn::new(message.text)),
            Some(turn) if waits => (open, results) = (Some(turn), Some(message.tool_results)),
            Some(mut turn) => {
                if let (Some(results), Some(round)) = (results.take(), turn.rounds.last_mut()) {
                    round.results = ToolResult::of_calls(&results, &round.calls)?;
                }
                let calls =
                    message.tool_calls.iter().cloned().map(ToolCall::read).collect::<Result<Vec<_>, _>>()?;
                if calls.is_empty() {
                    turns.push(Turn { answer: answer(message), ..turn });
                } else {
                    turn.rounds.push(ToolRound { text: answer(message), calls, results: Vec::new() });
                    open = Some(turn);
                }
            }
        }
    }
    let mut unanswered = None;
    match open {
        Some(turn) if turn.rounds.is_empty() => unanswered = Some(turn.user),
        waiting => turns.extend(waiting),
    }
    Ok((Held { conversation: Conversation { system, turns }, unanswered }, results))
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
    let assistant = |text: &str, calls: &[tools::ToolCall]| {
        let (reasoning, text) = thimble_chat::split_reasoning(text);
        let tool_calls = calls.iter().map(ToolCall::from).collect();
        Message { text, reasoning, tool_calls, ..Message::default() }
    };
    let mut messages = Vec::new();
    for turn in conversation.turns {
        let waits = turn.waits();
        messages.push(Message::user(turn.user));
        for round in turn.rounds {
            messages.push(assistant(&round.text, &round.calls));
            let results = round.calls.into_iter().zip(round.results);
            let tool_results: Vec<_> =
                results.map(|(call, content)| ToolResult { call_id: call.id, content }).collect();
            if !tool_results.is_empty() {
                messages.push(Message { from_user: true, tool_results, ..Message::default() });
            }
        }
        if !waits {
            messages.push(assistant(&turn.answer, &[]));
        }
    }
    messages
}

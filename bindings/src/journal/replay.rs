//! From a journal's lines to the conversation that they record, also after a process was killed.

use super::line::Line;
use std::borrow::Cow;
use std::collections::VecDeque;
use thimble_chat::tools::{ToolCall, ToolRound};
use thimble_chat::{Conversation, Turn};

/// A turn whose end was not read yet.
struct OpenTurn {
    turn: Turn,
    /// Calls of the answer at hand.
    calls: Vec<ToolCall>,
    /// Whether it replaces the last turn.
    again: bool,
}

/// What the lines so far record.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) conversation: Conversation,
    open: Option<OpenTurn>,
    waiting: VecDeque<String>,
    /// Messages that waited when their process ended.
    pub(super) left: Vec<String>,
}

impl Replay {
    /// Whether an answer or a message is unfinished.
    pub(super) fn waits(&self) -> bool {
        self.open.is_some() || !self.waiting.is_empty()
    }

    /// Ends a turn that another process left open, with as much of the answer as was shown.
    fn close(&mut self) {
        match self.open.take() {
            Some(open) if open.turn.answer.is_empty() && open.calls.is_empty() => {
                self.left.extend((!open.again).then_some(open.turn.user));
            }
            Some(open) => self.push(open),
            None => {}
        }
    }

    fn push(&mut self, mut open: OpenTurn) {
        if !open.calls.is_empty() {
            let text = std::mem::take(&mut open.turn.answer);
            open.turn.rounds.push(ToolRound { text, calls: open.calls, results: Vec::new() });
        }
        if open.again {
            self.conversation.turns.pop();
        }
        self.conversation.turns.push(open.turn);
    }

    /// The process that wrote the lines so far is gone.
    pub(super) fn leave(&mut self) {
        self.close();
        self.left.extend(self.waiting.drain(..));
    }

    /// Adds a line.
    pub(super) fn line(&mut self, line: Line<'_>) {
        let open = |user: String, again| OpenTurn { turn: Turn::new(user), calls: Vec::new(), again };
        match line {
            Line::Begin { system } => {
                (self.open, self.left) = (None, Vec::new());
                self.conversation = Conversation { system: system.map(Cow::into_owned), turns: Vec::new() };
            }
            Line::User(user) => {
                self.left.clear();
                self.waiting.push_back(user.into_owned());
            }
            Line::Answer => {
                self.close();
                self.open = self.waiting.pop_front().map(|user| open(user, false));
            }
            Line::Withdrawn => drop(self.waiting.pop_front()),
            Line::Again => {
                self.close();
                self.open = self.conversation.turns.last().map(|last| open(last.user.clone(), true));
            }
            Line::Piece(piece) => {
                if let Some(open) = &mut self.open {
                    open.turn.answer.push_str(&piece);
                }
            }
            Line::Call(call) => {
                if let Some(open) = &mut self.open {
                    open.calls.push(call.into_owned());
                }
            }
            Line::Results(results) => {
                self.close();
                let mut turn = self.conversation.turns.last().filter(|turn| turn.waits()).cloned();
                if let Some(round) = turn.as_mut().and_then(|turn| turn.rounds.last_mut()) {
                    round.results = results.into_owned();
                }
                // It replaces the turn whose calls wait.
                self.open = turn.map(|turn| OpenTurn { turn, calls: Vec::new(), again: true });
            }
            Line::End { remembered } => {
                if let Some(open) = self.open.take().filter(|_| remembered) {
                    self.push(open);
                }
            }
            Line::Forget(turns) => {
                let turns = turns.min(self.conversation.turns.len());
                self.conversation.turns.drain(..turns);
            }
            Line::Opened => self.leave(),
        }
    }
}

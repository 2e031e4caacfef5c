//! Conversations.

use crate::message::ChatMessage;
use crate::tools::ToolRound;
use thimble_runtime::chat::Role;

/// A message and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The user's message.
    pub user: String,
    /// Calls of tools before the answer, in their order. Those of the last round may wait for their results; then there is
    /// no answer yet.
    pub rounds: Vec<ToolRound>,
    /// The model's answer.
    pub answer: String,
}

/// What the model gets with each new message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The system message.
    pub system: Option<String>,
    /// The turns, oldest first.
    pub turns: Vec<Turn>,
}

impl Turn {
    /// A message without an answer.
    pub fn new(user: impl Into<String>) -> Turn {
        Turn { user: user.into(), ..Turn::default() }
    }

    /// Whether calls wait for their results.
    pub fn waits(&self) -> bool {
        self.rounds.last().is_some_and(ToolRound::waits)
    }

    fn bytes(&self) -> usize {
        self.user.len() + self.rounds.iter().map(ToolRound::bytes).sum::<usize>() + self.answer.len()
    }

    /// The user's message, the calls and their results.
    fn question(&self) -> Vec<ChatMessage<'_>> {
        let mut messages = vec![ChatMessage::new(Role::User, &*self.user)];
        for round in &self.rounds {
            let calls =
                ChatMessage { calls: &round.calls, ..ChatMessage::new(Role::Assistant, &*round.text) };
            messages.push(calls);
            let results = round.calls.iter().zip(&round.results).map(|(call, result)| ChatMessage {
                result_of: Some(call),
                ..ChatMessage::new(Role::Tool, &**result)
            });
            messages.extend(results);
        }
        messages
    }
}

impl Conversation {
    /// Bytes of the texts from turn `first` on.
    pub(crate) fn bytes(&self, first: usize) -> usize {
        self.turns.iter().skip(first).map(Turn::bytes).sum()
    }

    /// The messages from turn `first` on, with the system message, and those of `open`, which gets an answer.
    pub fn messages<'a>(&'a self, first: usize, open: &'a Turn) -> Vec<ChatMessage<'a>> {
        let system = self.system.iter().map(|text| ChatMessage::new(Role::System, &**text));
        let turns = self.turns.iter().skip(first).flat_map(|turn| {
            let answer = (!turn.waits()).then(|| ChatMessage::new(Role::Assistant, &*turn.answer));
            turn.question().into_iter().chain(answer)
        });
        system.chain(turns).chain(open.question()).collect()
    }

    /// The calls, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &crate::tools::ToolCall> {
        self.turns.iter().flat_map(|turn| &turn.rounds).flat_map(|round| &round.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatMessage, Conversation, Role, ToolRound, Turn};
    use crate::tools::ToolCall;

    #[test]
    fn old_turns_can_be_left_out() {
        let turn = |user: &str, answer: &str| Turn { answer: answer.to_string(), ..Turn::new(user) };
        let turns = vec![turn("a", "b"), turn("c", "")];
        let talk = Conversation { system: Some("s".to_string()), turns };
        let open = Turn::new("new");
        let messages = talk.messages(1, &open);
        let expected = [(Role::System, "s"), (Role::User, "c"), (Role::Assistant, ""), (Role::User, "new")];
        assert_eq!(messages, expected.map(|(role, text)| ChatMessage::new(role, text)));
    }

    #[test]
    fn calls_and_results_come_before_the_answer() {
        let call = ToolCall { id: "call_1".into(), name: "f".into(), arguments: serde_json::json!({"a": 1}) };
        let mut round = ToolRound { text: "hm".into(), calls: vec![call.clone()], results: vec!["2".into()] };
        let turn = Turn { rounds: vec![round.clone()], answer: "two".into(), ..Turn::new("q") };
        let talk = Conversation { system: None, turns: vec![turn] };
        let open = Turn::new("new");
        let messages = talk.messages(0, &open);
        let said: Vec<(Role, &str, usize)> =
            messages.iter().map(|m| (m.role, &*m.text, m.calls.len())).collect();
        let expected = [
            (Role::User, "q", 0),
            (Role::Assistant, "hm", 1),
            (Role::Tool, "2", 0),
            (Role::Assistant, "two", 0),
            (Role::User, "new", 0),
        ];
        assert_eq!(said, expected);
        assert_eq!(messages[2].result_of, Some(&call));
        assert_eq!(talk.bytes(0), "q".len() + "hm".len() + "f".len() + r#"{"a":1}"#.len() + "2two".len());
        // Without results there is no answer yet.
        round.results.clear();
        let waiting = Turn { rounds: vec![round], ..Turn::new("q") };
        assert!(waiting.waits() && !open.waits());
        let talk = Conversation { system: None, turns: vec![waiting] };
        assert_eq!(talk.messages(0, &open).len(), 3);
    }
}

//! The files that conversations are saved in.

use crate::ChatError;
use crate::conversation::{Conversation, Turn};
use crate::tools::{ToolCall, ToolRound};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use thimble_runtime::chat::Role;

/// A conversation as it is saved: messages with `role` and `content`, and calls as in OpenAI's messages, as most tools read
/// them.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedConversation {
    /// The model that answered, for the reader's information.
    #[serde(default)]
    model: Option<String>,
    messages: Vec<SavedMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMessage {
    #[serde(with = "RoleName")]
    role: Role,
    /// OpenAI's messages may have none beside calls.
    #[serde(default)]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

/// How a file names a [`Role`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "lowercase")]
enum RoleName {
    System,
    User,
    Assistant,
    Tool,
}

impl SavedMessage {
    fn new(role: Role, content: &str) -> SavedMessage {
        SavedMessage { role, content: Some(content.to_string()), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// The messages of a turn; without an answer if calls wait for their results.
    fn of(turn: &Turn) -> Vec<SavedMessage> {
        let mut messages = vec![SavedMessage::new(Role::User, &turn.user)];
        for round in &turn.rounds {
            let tool_calls = round.calls.iter().map(written).collect();
            messages.push(SavedMessage { tool_calls, ..SavedMessage::new(Role::Assistant, &round.text) });
            let results = round.calls.iter().zip(&round.results);
            messages.extend(results.map(|(call, result)| SavedMessage {
                tool_call_id: Some(call.id.clone()),
                ..SavedMessage::new(Role::Tool, result)
            }));
        }
        if !turn.waits() {
            messages.push(SavedMessage::new(Role::Assistant, &turn.answer));
        }
        messages
    }
}

/// A call in OpenAI's form: its arguments are a string of JSON.
fn written(call: &ToolCall) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments.to_string() });
    json!({ "id": call.id, "type": "function", "function": function })
}

impl SavedConversation {
    /// The file of a conversation that `model` answered.
    pub fn new(model: &str, conversation: &Conversation) -> SavedConversation {
        let system = conversation.system.iter().map(|text| SavedMessage::new(Role::System, text));
        let turns = conversation.turns.iter().flat_map(SavedMessage::of);
        SavedConversation { model: Some(model.to_string()), messages: system.chain(turns).collect() }
    }

    /// Writes the file atomically.
    pub fn write(&self, path: &Path) -> Result<(), ChatError> {
        let written = thimble_files::write_with(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        });
        written.map_err(|source| ChatError::Io { action: "write", path: path.to_path_buf(), source })
    }

    /// Reads and validates a file.
    pub fn read(path: &Path) -> Result<Conversation, ChatError> {
        Ok(SavedConversation::read_with_model(path)?.1)
    }

    /// Reads and validates a file; with the model that answered, if the file names it.
    pub fn read_with_model(path: &Path) -> Result<(Option<String>, Conversation), ChatError> {
        let text = fs::read(path).map_err(|source| ChatError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        })?;
        let invalid = |line, reason| ChatError::NotAConversation { path: path.to_path_buf(), line, reason };
        let mut saved: SavedConversation = serde_json::from_slice(&text)
            .map_err(|e| invalid(e.line(), format!("not a conversation: {e}")))?;
        let model = saved.model.take();
        Ok((model, saved.into_conversation().map_err(|reason| invalid(1, reason))?))
    }

    /// The conversation, if the roles are in order.
    fn into_conversation(self) -> Result<Conversation, String> {
        let empty = |message: &SavedMessage| message.content.is_none() && message.tool_calls.is_empty();
        if let Some(index) = self.messages.iter().position(empty) {
            return Err(format!("message {} has no content", index + 1));
        }
        let mut messages = Numbered { messages: self.messages.into_iter().peekable(), read: 0 };
        let system = messages.next_if(Role::System).map(SavedMessage::text);
        let mut turns = Vec::new();
        while messages.messages.peek().is_some() {
            turns.push(messages.turn()?);
            if turns.last().is_some_and(Turn::waits) && messages.messages.peek().is_some() {
                return Err(format!(
                    "expected the results of the calls before message {}",
                    messages.read + 1
                ));
            }
        }
        Ok(Conversation { system, turns })
    }
}

impl SavedMessage {
    fn text(self) -> String {
        self.content.unwrap_or_default()
    }
}

/// Messages, and how many of them were read.
struct Numbered<I: Iterator<Item = SavedMessage>> {
    messages: Peekable<I>,
    read: usize,
}

impl<I: Iterator<Item = SavedMessage>> Numbered<I> {
    fn next_if(&mut self, role: Role) -> Option<SavedMessage> {
        let message = self.messages.next_if(|message| message.role == role)?;
        self.read += 1;
        Some(message)
    }

    /// A user's message, rounds of calls, and an answer, which is missing behind calls without results.
    fn turn(&mut self) -> Result<Turn, String> {
        let number = self.read + 1;
        let expected = || {
            let second = number + 1;
            format!("expected a user message and the assistant's answer at messages {number} and {second}")
        };
        let mut turn = Turn::new(self.next_if(Role::User).ok_or_else(expected)?.text());
        loop {
            let number = self.read + 1;
            let missing = || match turn.rounds.is_empty() {
                true => expected(),
                false => format!("expected the assistant's answer at message {number}"),
            };
            let said = self.next_if(Role::Assistant).ok_or_else(missing)?;
            if said.tool_calls.is_empty() {
                turn.answer = said.text();
                return Ok(turn);
            }
            let calls: Result<Vec<ToolCall>, &str> = said.tool_calls.iter().cloned().map(read_call).collect();
            let calls = calls.map_err(|reason| format!("a call of message {number}: {reason}"))?;
            let mut round = ToolRound { text: said.content.unwrap_or_default(), calls, results: Vec::new() };
            self.results(&mut round)?;
            turn.rounds.push(round);
            if turn.waits() {
                return Ok(turn);
            }
        }
    }

    /// The results of all calls in a round, in any order, or none.
    fn results(&mut self, round: &mut ToolRound) -> Result<(), String> {
        let mut results = vec![None; round.calls.len()];
        while let Some(said) = self.next_if(Role::Tool) {
            let number = self.read;
            let place = match &said.tool_call_id {
                Some(id) => round.calls.iter().position(|call| call.id == *id),
                None => results.iter().position(Option::is_none),
            };
            let free = place.and_then(|place| results.get_mut(place)).filter(|result| result.is_none());
            let free = free.ok_or_else(|| {
                format!("message {number} is the result of no call before it, or of one that has a result")
            })?;
            *free = Some(said.text());
        }
        let known: Vec<String> = results.into_iter().flatten().collect();
        if !known.is_empty() && known.len() < round.calls.len() {
            let (found, expected, number) = (known.len(), round.calls.len(), self.read);
            return Err(format!(
                "found {found} results up to message {number}, expected one for each of {expected} calls"
            ));
        }
        round.results = known;
        Ok(())
    }
}

/// Reads a call in OpenAI's form.
fn read_call(value: Value) -> Result<ToolCall, &'static str> {
    let id = match value.get("id") {
        Some(Value::String(id)) => id.clone(),
        _ => return Err("expected an id"),
    };
    Ok(ToolCall { id, ..ToolCall::read(value)? })
}

#[cfg(test)]
mod tests {
    use super::{Conversation, SavedConversation, ToolCall, ToolRound, Turn};

    fn talk() -> Conversation {
        let turn = |user: &str, answer: &str| Turn { answer: answer.to_string(), ..Turn::new(user) };
        let turns = vec![turn("a \"quote\"\n🙂", "b"), turn("c", "")];
        Conversation { system: Some("s".to_string()), turns }
    }

    /// A turn with two rounds of calls; the second one has `results`.
    fn calling(results: &[&str], answer: &str) -> Conversation {
        let call = |number: usize, arguments: serde_json::Value| ToolCall {
            id: format!("call_{number}"),
            name: "f".to_string(),
            arguments,
        };
        let first = vec![call(1, serde_json::json!({"z": "\"<tool_call>", "a": [1.5, null]}))];
        let second = vec![call(2, serde_json::json!({})), call(3, serde_json::json!({"a": 1}))];
        let results = results.iter().map(|result| result.to_string()).collect();
        let rounds = vec![
            ToolRound { text: "hm".to_string(), calls: first, results: vec!["one".to_string()] },
            ToolRound { text: String::new(), calls: second, results },
        ];
        let turn = Turn { rounds, answer: answer.to_string(), ..Turn::new("q") };
        Conversation { system: None, turns: vec![turn] }
    }

    #[test]
    fn a_saved_conversation_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        for talk in [talk(), Conversation::default(), calling(&["two", ""], "done"), calling(&[], "")] {
            SavedConversation::new("m", &talk).write(&path).unwrap();
            let (model, read) = SavedConversation::read_with_model(&path).unwrap();
            assert_eq!((model.as_deref(), &read), (Some("m"), &talk));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn calls_of_other_programs_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let text = r#"{"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": {}}}]},
            {"role": "tool", "tool_call_id": "b", "content": "second"},
            {"role": "tool", "tool_call_id": "a", "content": "first"},
            {"role": "assistant", "content": "done"}]}"#;
        std::fs::write(&path, text).unwrap();
        let talk = SavedConversation::read(&path).unwrap();
        let round = &talk.turns[0].rounds[0];
        assert_eq!(round.results, ["first", "second"]);
        assert_eq!((round.calls[0].arguments["x"].as_u64(), &*talk.turns[0].answer), (Some(1), "done"));
    }

    #[test]
    fn a_file_that_is_no_conversation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let call =
            r#"{"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}"#;
        let user = r#"{"role": "user", "content": "q"}"#;
        let result = r#"{"role": "tool", "tool_call_id": "a", "content": "r"}"#;
        let invalid = [
            String::new(),
            "[]".to_string(),
            r#"{"messages": [{"role": "wizard", "content": ""}]}"#.to_string(),
            r#"{"messages": [{"role": "user", "content": "no answer"}]}"#.to_string(),
            r#"{"messages": [{"role": "assistant", "content": ""}, {"role": "user", "content": ""}]}"#
                .to_string(),
            r#"{"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": ""}]}"#
                .to_string(),
            format!(r#"{{"messages": [{result}]}}"#),
            format!(r#"{{"messages": [{user}, {call}, {result}, {result}]}}"#),
            format!(r#"{{"messages": [{user}, {call}, {result}]}}"#),
            format!(r#"{{"messages": [{user}, {call}, {user}]}}"#),
            format!(r#"{{"messages": [{user}, {}]}}"#, call.replace("\"id\": \"a\", ", "")),
        ];
        for text in invalid {
            std::fs::write(&path, &text).unwrap();
            let sentence = SavedConversation::read(&path).unwrap_err().to_string();
            assert!(sentence.contains("talk.json"), "{text}: {sentence}");
        }
        assert!(SavedConversation::read(folder.path()).is_err());
        assert!(SavedConversation::new("m", &talk()).write(folder.path()).is_err());
    }
}

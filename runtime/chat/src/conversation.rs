//! Conversations, and the files they are saved in.

use crate::ChatError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use thimble_runtime::chat::{Message, Role};

/// A message and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user's message.
    pub user: String,
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

impl Conversation {
    /// Bytes of the texts from turn `first` on.
    pub(crate) fn bytes(&self, first: usize) -> usize {
        self.turns.iter().skip(first).map(|turn| turn.user.len() + turn.answer.len()).sum()
    }

    /// The messages from turn `first` on, with the system message, and `user` as the last one.
    pub fn messages<'a>(&'a self, first: usize, user: &'a str) -> Vec<Message<'a>> {
        let message = |role, text| Message { role, text };
        let turns = self.turns.iter().skip(first);
        let turns = turns
            .flat_map(|turn| [message(Role::User, &*turn.user), message(Role::Assistant, &*turn.answer)]);
        let system = self.system.as_deref().map(|text| message(Role::System, text));
        system.into_iter().chain(turns).chain([message(Role::User, user)]).collect()
    }
}

/// A conversation as it is saved: messages with `role` and `content`, as most tools read them.
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
    content: String,
}

/// How a file names a [`Role`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "lowercase")]
enum RoleName {
    System,
    User,
    Assistant,
    /// A chat has none.
    #[serde(skip)]
    Tool,
}

impl SavedConversation {
    /// The file of a conversation that `model` answered.
    pub fn new(model: &str, conversation: &Conversation) -> SavedConversation {
        let message = |role, content: &str| SavedMessage { role, content: content.to_string() };
        let system = conversation.system.iter().map(|text| message(Role::System, text));
        let turns = conversation.turns.iter();
        let turns =
            turns.flat_map(|turn| [message(Role::User, &turn.user), message(Role::Assistant, &turn.answer)]);
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
        let text = fs::read(path).map_err(|source| ChatError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        })?;
        let invalid = |line, reason| ChatError::NotAConversation { path: path.to_path_buf(), line, reason };
        let saved: SavedConversation = serde_json::from_slice(&text)
            .map_err(|e| invalid(e.line(), format!("not a conversation: {e}")))?;
        saved.into_conversation().map_err(|reason| invalid(1, reason))
    }

    /// The conversation, if the roles are in order.
    fn into_conversation(self) -> Result<Conversation, String> {
        let mut messages = self.messages.into_iter().peekable();
        let system = messages.next_if(|message| message.role == Role::System).map(|m| m.content);
        let mut turns = Vec::new();
        while let Some(user) = messages.next() {
            let answer = messages.next().filter(|m| m.role == Role::Assistant && user.role == Role::User);
            let answer = answer.ok_or_else(|| {
                let number = 1 + 2 * turns.len() + usize::from(system.is_some());
                format!(
                    "expected a user message and the assistant's answer at messages {number} and {}",
                    number + 1
                )
            })?;
            turns.push(Turn { user: user.content, answer: answer.content });
        }
        Ok(Conversation { system, turns })
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversation, Message, Role, SavedConversation, Turn};

    fn talk() -> Conversation {
        let turn = |user: &str, answer: &str| Turn { user: user.to_string(), answer: answer.to_string() };
        let turns = vec![turn("a \"quote\"\n🙂", "b"), turn("c", "")];
        Conversation { system: Some("s".to_string()), turns }
    }

    #[test]
    fn old_turns_can_be_left_out() {
        let talk = talk();
        let messages = talk.messages(1, "new");
        let expected = [(Role::System, "s"), (Role::User, "c"), (Role::Assistant, ""), (Role::User, "new")];
        let expected = expected.map(|(role, text)| Message { role, text });
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_saved_conversation_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        for talk in [talk(), Conversation::default()] {
            SavedConversation::new("m", &talk).write(&path).unwrap();
            assert_eq!(SavedConversation::read(&path).unwrap(), talk);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_file_that_is_no_conversation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let invalid = [
            "",
            "[]",
            r#"{"messages": [{"role": "wizard", "content": ""}]}"#,
            r#"{"messages": [{"role": "user", "content": "no answer"}]}"#,
            r#"{"messages": [{"role": "assistant", "content": ""}, {"role": "user", "content": ""}]}"#,
            r#"{"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": ""}]}"#,
        ];
        for text in invalid {
            std::fs::write(&path, text).unwrap();
            let sentence = SavedConversation::read(&path).unwrap_err().to_string();
            assert!(sentence.contains("talk.json"), "{sentence}");
        }
        assert!(SavedConversation::read(folder.path()).is_err());
        assert!(SavedConversation::new("m", &talk()).write(folder.path()).is_err());
    }
}

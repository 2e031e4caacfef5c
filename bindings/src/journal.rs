//! A chat on disk before it is shown: what a killed app had on its screen is there when it opens again.
//!
//! Lines of JSON, appended: a system message, then for each turn the person's message, the pieces of the answer as they
//! are made, and its end. A line that a killed process left unfinished is dropped; a turn without an end is a turn
//! with as much of an answer as there was.

use crate::ApiError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use thimble_host::chat::{Conversation, Turn};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The conversation begins anew with these instructions.
    Begin { system: Option<String> },
    /// A message.
    User(String),
    /// More of the answer.
    Piece(String),
    /// The answer is over; whether the turn is remembered.
    End { remembered: bool },
    /// The last turn is taken back.
    TakeBack,
    /// The oldest turns are forgotten.
    Forget(usize),
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: String,
}

/// How a journal begins.
const START: &[u8] = b"{\"begin\":";
/// How long a chat that is being dropped may hold its journal.
const PATIENCE: Duration = Duration::from_secs(10);

impl Journal {
    /// Opens the journal, or makes it with `system`; what it holds of a conversation.
    pub(crate) fn open(path: &str, system: Option<String>) -> Result<(Journal, Conversation), ApiError> {
        let failed = |error: std::io::Error| ApiError::other(format!("cannot open {path}: {error}"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(Path::new(path));
        let file = file.map_err(failed)?;
        let begin = Instant::now();
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::WouldBlock if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                TryLockError::WouldBlock => {
                    return Err(ApiError::other(format!("{path} is in use by another chat: close that one")));
                }
                // A file system without locks is used without.
                TryLockError::Error(_) => break,
            }
        }
        let mut journal = Journal { file, path: path.to_owned() };
        let (conversation, whole) = journal.read()?;
        journal.file.set_len(whole).map_err(failed)?;
        journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if whole > 0 {
            return Ok((journal, conversation));
        }
        journal.begin(system.clone())?;
        Ok((journal, Conversation { system, turns: Vec::new() }))
    }

    /// What is in the file, and the bytes of its whole lines.
    fn read(&self) -> Result<(Conversation, u64), ApiError> {
        let mut conversation = Conversation::default();
        let mut open: Option<Turn> = None;
        let mut whole = 0;
        let mut reader = BufReader::new(&self.file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let read = reader.read_until(b'\n', &mut bytes);
            read.map_err(|error| ApiError::other(format!("cannot read {}: {error}", self.path)))?;
            if !bytes.ends_with(b"\n") {
                // A journal's first line that was cut off may be written anew; anything else is someone's file.
                if number == 1 && !bytes.starts_with(START) && !START.starts_with(&bytes) {
                    return Err(ApiError::Damaged {
                        path: self.path.clone(),
                        reason: "it is not a chat's journal".to_owned(),
                    });
                }
                break;
            }
            let line = serde_json::from_slice(&bytes).map_err(|error| ApiError::Damaged {
                path: self.path.clone(),
                reason: format!("line {number} is not of a chat's journal ({error})"),
            })?;
            match line {
                Line::Begin { system } => conversation = Conversation { system, turns: Vec::new() },
                Line::User(user) => open = Some(Turn { user, answer: String::new() }),
                Line::Piece(piece) => {
                    if let Some(turn) = &mut open {
                        turn.answer.push_str(&piece);
                    }
                }
                Line::End { remembered } => conversation.turns.extend(open.take().filter(|_| remembered)),
                Line::TakeBack => {
                    conversation.turns.pop();
                }
                Line::Forget(turns) => {
                    conversation.turns.drain(..turns.min(conversation.turns.len()));
                }
            }
            whole += bytes.len() as u64;
        }
        // An answer of which nothing was shown is none.
        conversation.turns.extend(open.filter(|turn| !turn.answer.is_empty()));
        Ok((conversation, whole))
    }

    /// In one call, so that what is there of a line is its beginning.
    fn write(&mut self, line: &Line) -> Result<(), ApiError> {
        let mut bytes = serde_json::to_vec(line).map_err(ApiError::other)?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes);
        written.map_err(|error| ApiError::other(format!("cannot write {}: {error}", self.path)))
    }

    /// A conversation without turns.
    pub(crate) fn begin(&mut self, system: Option<String>) -> Result<(), ApiError> {
        self.write(&Line::Begin { system })
    }

    /// Another conversation in place of what was there.
    pub(crate) fn replace(&mut self, conversation: &Conversation) -> Result<(), ApiError> {
        self.begin(conversation.system.clone())?;
        for turn in &conversation.turns {
            self.user(&turn.user)?;
            self.piece(&turn.answer)?;
            self.end(true)?;
        }
        Ok(())
    }

    /// A message, before it is answered.
    pub(crate) fn user(&mut self, text: &str) -> Result<(), ApiError> {
        self.write(&Line::User(text.to_owned()))
    }

    /// More of the answer, before it is shown.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), ApiError> {
        self.write(&Line::Piece(text.to_owned()))
    }

    /// The end of an answer. A killed process loses nothing of what was written before, a power cut nothing from here on.
    pub(crate) fn end(&mut self, remembered: bool) -> Result<(), ApiError> {
        self.write(&Line::End { remembered })?;
        let synced = self.file.sync_data();
        synced.map_err(|error| ApiError::other(format!("cannot write {}: {error}", self.path)))
    }

    /// The last turn is taken back.
    pub(crate) fn take_back(&mut self) -> Result<(), ApiError> {
        self.write(&Line::TakeBack)
    }

    /// The oldest turns are forgotten.
    pub(crate) fn forget(&mut self, turns: usize) -> Result<(), ApiError> {
        if turns == 0 {
            return Ok(());
        }
        self.write(&Line::Forget(turns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_of_a_journal_is_a_conversation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.jsonl");
        let name = path.to_str().unwrap();
        let (mut journal, empty) = Journal::open(name, Some("Be brief.".to_owned())).unwrap();
        assert!(empty.turns.is_empty());
        for (user, pieces) in [("a", ["b", "c"]), ("d", ["e\n", "🙂"])] {
            journal.user(user).unwrap();
            pieces.iter().for_each(|piece| journal.piece(piece).unwrap());
            journal.end(true).unwrap();
        }
        journal.take_back().unwrap();
        journal.user("x").unwrap();
        journal.piece("shown").unwrap();
        drop(journal);
        let (journal, conversation) = Journal::open(name, None).unwrap();
        drop(journal);
        assert_eq!(conversation.system.as_deref(), Some("Be brief."));
        let answers: Vec<&str> = conversation.turns.iter().map(|turn| &*turn.answer).collect();
        assert_eq!(answers, ["bc", "shown"]);

        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (_, conversation) = Journal::open(name, None).unwrap();
            assert!(conversation.turns.len() <= 2, "{cut}");
        }
        std::fs::write(&path, "something else\n").unwrap();
        assert!(matches!(Journal::open(name, None), Err(ApiError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
    }
}

//! A chat on disk before it is shown: what a killed app had on its screen is there when it opens again.
//!
//! Lines of JSON, appended: a system message, then for each turn the person's message, the pieces of the answer as they
//! are made, and its end. A line that a killed process left unfinished is dropped; a turn without an end is a turn
//! with as much of an answer as there was.

use crate::ApiError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use thimble_host::chat::{Conversation, Turn};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    /// The conversation begins anew with these instructions.
    Begin { system: Option<Cow<'a, str>> },
    /// A message.
    User(Cow<'a, str>),
    /// The last message is answered once more.
    Again,
    /// More of the answer.
    Piece(Cow<'a, str>),
    /// The answer is over; whether the turn is remembered.
    End { remembered: bool },
    /// The oldest turns are forgotten.
    Forget(usize),
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: String,
    /// A line that is being written; its memory is kept for the next one.
    line: Vec<u8>,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// What was said.
    pub(crate) conversation: Conversation,
    /// A message behind it, of whose answer nothing was shown.
    pub(crate) unanswered: Option<String>,
}

/// A turn whose end was not read yet.
struct Open {
    turn: Turn,
    /// Whether it takes the last turn's place.
    again: bool,
}

impl Open {
    /// The turn is complete, or there is nothing behind it.
    fn close(self, conversation: &mut Conversation) {
        if self.again {
            conversation.turns.pop();
        }
        conversation.turns.push(self.turn);
    }
}

/// How a journal begins.
const START: &[u8] = b"{\"begin\":";
/// How long a chat that is being dropped may hold its journal.
const PATIENCE: Duration = Duration::from_secs(10);

impl Journal {
    /// Opens the journal, or makes it with `system`; what it holds of a conversation.
    pub(crate) fn open(path: &str, system: Option<String>) -> Result<(Journal, Held), ApiError> {
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
        let mut journal = Journal { file, path: path.to_owned(), line: Vec::new() };
        let (held, whole) = journal.read()?;
        journal.file.set_len(whole).map_err(failed)?;
        journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if whole > 0 {
            return Ok((journal, held));
        }
        journal.begin(system.as_deref())?;
        Ok((journal, Held { conversation: Conversation { system, turns: Vec::new() }, unanswered: None }))
    }

    /// What is in the file, and the bytes of its whole lines.
    fn read(&self) -> Result<(Held, u64), ApiError> {
        let mut conversation = Conversation::default();
        let mut open: Option<Open> = None;
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
            // What a killed process left open ends where the next begins.
            let shown = |open: &mut Option<Open>| open.take().filter(|open| !open.turn.answer.is_empty());
            match line {
                Line::Begin { system } => {
                    open = None;
                    let system = system.map(Cow::into_owned);
                    conversation = Conversation { system, turns: Vec::new() };
                }
                Line::User(user) => {
                    shown(&mut open).into_iter().for_each(|open| open.close(&mut conversation));
                    let turn = Turn { user: user.into_owned(), answer: String::new() };
                    open = Some(Open { turn, again: false });
                }
                Line::Again => {
                    shown(&mut open).into_iter().for_each(|open| open.close(&mut conversation));
                    let last = conversation.turns.last().map(|turn| turn.user.clone());
                    let turn = last.map(|user| Turn { user, answer: String::new() });
                    open = turn.map(|turn| Open { turn, again: true });
                }
                Line::Piece(piece) => {
                    if let Some(open) = &mut open {
                        open.turn.answer.push_str(&piece);
                    }
                }
                Line::End { remembered } => {
                    if let Some(open) = open.take().filter(|_| remembered) {
                        open.close(&mut conversation);
                    }
                }
                Line::Forget(turns) => {
                    conversation.turns.drain(..turns.min(conversation.turns.len()));
                }
            }
            whole += bytes.len() as u64;
        }
        let mut unanswered = None;
        match open {
            Some(open) if !open.turn.answer.is_empty() => open.close(&mut conversation),
            Some(open) if !open.again => unanswered = Some(open.turn.user),
            _ => {}
        }
        Ok((Held { conversation, unanswered }, whole))
    }

    /// In one call, so that what is there of a line is its beginning.
    fn write(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).map_err(ApiError::other)?;
        self.line.push(b'\n');
        let written = self.file.write_all(&self.line);
        written.map_err(|error| ApiError::other(format!("cannot write {}: {error}", self.path)))
    }

    /// A conversation without turns.
    fn begin(&mut self, system: Option<&str>) -> Result<(), ApiError> {
        self.write(&Line::Begin { system: system.map(Cow::Borrowed) })
    }

    /// Another conversation in place of what was there.
    pub(crate) fn replace(&mut self, conversation: &Conversation) -> Result<(), ApiError> {
        self.begin(conversation.system.as_deref())?;
        for turn in &conversation.turns {
            self.user(&turn.user)?;
            self.piece(&turn.answer)?;
            self.end(true)?;
        }
        Ok(())
    }

    /// A message, before it is answered.
    pub(crate) fn user(&mut self, text: &str) -> Result<(), ApiError> {
        self.write(&Line::User(text.into()))
    }

    /// More of the answer, before it is shown.
    pub(crate) fn piece(&mut self, text: &str) -> Result<(), ApiError> {
        self.write(&Line::Piece(text.into()))
    }

    /// The end of an answer. A killed process loses nothing of what was written before, a power cut nothing from here on.
    pub(crate) fn end(&mut self, remembered: bool) -> Result<(), ApiError> {
        self.write(&Line::End { remembered })?;
        let synced = self.file.sync_data();
        synced.map_err(|error| ApiError::other(format!("cannot write {}: {error}", self.path)))
    }

    /// The last message is answered once more; until something of that answer was shown, the old one is there.
    pub(crate) fn again(&mut self) -> Result<(), ApiError> {
        self.write(&Line::Again)
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

    fn open(path: &Path) -> Result<Held, ApiError> {
        Journal::open(path.to_str().unwrap(), None).map(|(_, held)| held)
    }

    fn answers(held: &Held) -> Vec<&str> {
        held.conversation.turns.iter().map(|turn| &*turn.answer).collect()
    }

    #[test]
    fn every_beginning_of_a_journal_is_a_conversation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.jsonl");
        let name = path.to_str().unwrap();
        let (mut journal, empty) = Journal::open(name, Some("Be brief.".to_owned())).unwrap();
        assert!(empty.conversation.turns.is_empty());
        for (user, pieces) in [("a", ["b", "c"]), ("d", ["e\n", "🙂"])] {
            journal.user(user).unwrap();
            pieces.iter().for_each(|piece| journal.piece(piece).unwrap());
            journal.end(true).unwrap();
        }
        journal.again().unwrap();
        journal.piece("\u{1}other").unwrap();
        journal.end(true).unwrap();
        journal.user("x").unwrap();
        journal.piece("shown").unwrap();
        drop(journal);
        let held = open(&path).unwrap();
        assert_eq!(held.conversation.system.as_deref(), Some("Be brief."));
        assert_eq!(answers(&held), ["bc", "\u{1}other", "shown"]);

        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let held = open(&path).unwrap();
            assert!(held.conversation.turns.len() <= 3, "{cut}");
        }
        std::fs::write(&path, "something else\n").unwrap();
        assert!(matches!(open(&path), Err(ApiError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
    }

    #[test]
    fn what_a_killed_process_left_open_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.jsonl");
        let reopen = || Journal::open(path.to_str().unwrap(), None).unwrap();
        let (mut journal, _) = reopen();
        journal.user("a").unwrap();
        journal.piece("half an ans").unwrap();
        drop(journal);
        // The next process goes on behind it, and is killed before it has answered anything.
        let (mut journal, held) = reopen();
        assert_eq!((answers(&held), held.unanswered), (vec!["half an ans"], None));
        journal.user("b").unwrap();
        drop(journal);
        let (mut journal, held) = reopen();
        assert_eq!((answers(&held), held.unanswered.as_deref()), (vec!["half an ans"], Some("b")));
        // Answered once more: the old answer stays until something of the new one was shown.
        journal.again().unwrap();
        drop(journal);
        let (mut journal, held) = reopen();
        assert_eq!((answers(&held), held.unanswered), (vec!["half an ans"], None));
        journal.again().unwrap();
        journal.piece("new").unwrap();
        drop(journal);
        let (mut journal, held) = reopen();
        assert_eq!(answers(&held), ["new"]);
        journal.again().unwrap();
        journal.end(false).unwrap();
        drop(journal);
        assert_eq!(answers(&reopen().1), ["new"]);
    }
}

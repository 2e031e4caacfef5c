//! A chat on disk before it is shown: what a killed app had on its screen is there when it opens again.
//!
//! Lines of JSON, appended: a system message; each message of the person as it is sent; where its answer begins, the pieces
//! of the answer as they are made, and its end. Messages wait for their answers in the order in which they were sent. A
//! line that was left unfinished is skipped; a turn without an end is a turn with as much of an answer as there was.

use crate::ApiError;
use crate::claim::Claim;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thimble_chat::{Conversation, Turn};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    /// The conversation begins anew with these instructions.
    Begin { system: Option<Cow<'a, str>> },
    /// A message, which waits for its answer.
    User(Cow<'a, str>),
    /// The answer to the oldest message that waits begins.
    Answer,
    /// The oldest message that waits is taken back.
    Dropped,
    /// The last message is answered once more.
    Again,
    /// More of the answer.
    Piece(Cow<'a, str>),
    /// The answer is over; whether the turn is remembered.
    End { remembered: bool },
    /// The oldest turns are forgotten.
    Forget(usize),
    /// Another process opened the journal: no message waits any more.
    Opened,
}

/// An open journal, for the chat and its thread.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Shared with who waits for the disk.
    file: Arc<File>,
    /// Bytes of its whole lines.
    whole: u64,
    /// Whether the beginning of a line stands behind those, and cannot be taken away.
    torn: bool,
    /// Messages that wait for their answers.
    waiting: VecDeque<String>,
    /// Messages that do not wait any more and, on disk, still do: a full disk had no room for a line that says so.
    owed: usize,
    /// A conversation for which there was no room either: it takes the place of what is on disk before the next line.
    owed_conversation: Option<Conversation>,
    /// A line that is being written; its memory is kept for the next one.
    line: Vec<u8>,
    /// Until this is dropped no other chat of the process has the file. The last field: the file is closed before.
    claim: Claim,
    /// Bytes that the disk has room for.
    #[cfg(test)]
    room: Option<usize>,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// What was said.
    pub(crate) conversation: Conversation,
    /// Messages behind it, of whose answers nothing was shown; a line break between two.
    pub(crate) unanswered: Option<String>,
}

/// A turn whose end was not read yet.
struct Open {
    turn: Turn,
    /// Whether it takes the last turn's place.
    again: bool,
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    conversation: Conversation,
    open: Option<Open>,
    waiting: VecDeque<String>,
    /// Messages that waited when their process ended.
    left: Vec<String>,
}

impl Reader {
    /// What another process left open ends, as far as something of it was shown.
    fn close(&mut self) {
        match self.open.take() {
            Some(open) if open.turn.answer.is_empty() => {
                self.left.extend((!open.again).then_some(open.turn.user));
            }
            Some(open) => self.push(open),
            None => {}
        }
    }

    fn push(&mut self, open: Open) {
        if open.again {
            self.conversation.turns.pop();
        }
        self.conversation.turns.push(open.turn);
    }

    /// The process that wrote this is gone.
    fn leave(&mut self) {
        self.close();
        self.left.extend(self.waiting.drain(..));
    }

    fn line(&mut self, line: Line<'_>) {
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
                let turn = |user| Turn { user, answer: String::new() };
                self.open = self.waiting.pop_front().map(|user| Open { turn: turn(user), again: false });
            }
            Line::Dropped => drop(self.waiting.pop_front()),
            Line::Again => {
                self.close();
                let last = self.conversation.turns.last();
                let turn = last.map(|last| Turn { user: last.user.clone(), answer: String::new() });
                self.open = turn.map(|turn| Open { turn, again: true });
            }
            Line::Piece(piece) => {
                if let Some(open) = &mut self.open {
                    open.turn.answer.push_str(&piece);
                }
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

/// How a journal begins.
const START: &[u8] = b"{\"begin\":";
/// Below so many bytes a journal is not written anew when it is opened.
const SMALL: u64 = 16 << 10;

impl Journal {
    /// Opens the journal, or makes it with `system`; what it holds of a conversation.
    ///
    /// # Errors
    /// Another chat has it open, the file is no journal, or it cannot be written.
    pub(crate) fn open(path: &str, system: Option<String>) -> Result<(Journal, Held), ApiError> {
        let failed = |error: io::Error| ApiError::other(format!("cannot open {path}: {error}"));
        let options = || OpenOptions::new().read(true).append(true).create(true).open(Path::new(path));
        drop(options().map_err(failed)?);
        let claim = Claim::new(fs::canonicalize(path).map_err(failed)?)?;
        let file = claim.lock(options).map_err(failed)?;
        let mut inner = Inner {
            file: Arc::new(file),
            whole: 0,
            torn: false,
            waiting: VecDeque::new(),
            owed: 0,
            owed_conversation: None,
            line: Vec::new(),
            claim,
            #[cfg(test)]
            room: None,
        };
        // A process that was killed while it wrote anew.
        let _ = fs::remove_file(inner.temporary());
        let mut reader = inner.read()?;
        inner.file.set_len(inner.whole).map_err(failed)?;
        if inner.whole == 0 {
            inner.write(&Line::Begin { system: system.as_deref().map(Cow::Borrowed) })?;
            inner.sync_folder();
            let conversation = Conversation { system, turns: Vec::new() };
            return Ok((Journal(Arc::new(Mutex::new(inner))), Held { conversation, unanswered: None }));
        }
        let waits = reader.open.is_some() || !reader.waiting.is_empty();
        reader.leave();
        let anew = lines(&reader.conversation, reader.left.iter())?;
        if inner.whole > SMALL && inner.whole > 2 * anew.len() as u64 {
            // On a full disk the old one does as well.
            waits_no_more(inner.write_anew(anew, !reader.left.is_empty()).is_err() && waits, &mut inner)?;
        } else {
            waits_no_more(waits, &mut inner)?;
        }
        let unanswered = (!reader.left.is_empty()).then(|| reader.left.join("\n"));
        let held = Held { conversation: reader.conversation, unanswered };
        Ok((Journal(Arc::new(Mutex::new(inner))), held))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chat is being dropped: who opens the journal next waits for that.
    pub(crate) fn closing(&self) {
        self.inner().claim.closing();
    }

    /// Another conversation in place of what was there, which is gone from the disk.
    pub(crate) fn replace(&self, conversation: &Conversation) -> Result<(), ApiError> {
        let mut inner = self.inner();
        inner.owed_conversation = Some(conversation.clone());
        inner.settle()
    }

    /// A message, before anything else is done with it.
    pub(crate) fn user(&self, text: &str) -> Result<(), ApiError> {
        let mut inner = self.inner();
        inner.write(&Line::User(text.into()))?;
        inner.waiting.push_back(text.to_owned());
        Ok(())
    }

    /// The oldest message that waits is answered now.
    pub(crate) fn answer(&self) -> Result<(), ApiError> {
        self.inner().take_waiting(&Line::Answer)
    }

    /// The oldest message that waits is not answered.
    pub(crate) fn dropped(&self) -> Result<(), ApiError> {
        self.inner().take_waiting(&Line::Dropped)
    }

    /// More of the answer, before it is shown.
    pub(crate) fn piece(&self, text: &str) -> Result<(), ApiError> {
        self.inner().write(&Line::Piece(text.into()))
    }

    /// The end of an answer. A killed process loses nothing of what was written before, a power cut nothing from here on.
    pub(crate) fn end(&self, remembered: bool) -> Result<(), ApiError> {
        let mut inner = self.inner();
        inner.write(&Line::End { remembered })?;
        let file = Arc::clone(&inner.file);
        let path = inner.path().to_owned();
        // Who sends a message meanwhile does not wait for the disk.
        drop(inner);
        file.sync_data().map_err(|error| cannot_write(&path, &error))
    }

    /// The last message is answered once more; until something of that answer was shown, the old one is there.
    pub(crate) fn again(&self) -> Result<(), ApiError> {
        self.inner().write(&Line::Again)
    }

    /// The oldest turns are forgotten.
    pub(crate) fn forget(&self, turns: usize) -> Result<(), ApiError> {
        if turns == 0 {
            return Ok(());
        }
        self.inner().write(&Line::Forget(turns))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> ApiError {
    ApiError::other(format!("cannot write {}: {error}", path.display()))
}

/// Appends a line to `bytes`.
fn put(bytes: &mut Vec<u8>, line: &Line<'_>) -> Result<(), ApiError> {
    serde_json::to_writer(&mut *bytes, line).map_err(ApiError::other)?;
    bytes.push(b'\n');
    Ok(())
}

fn put_turn(bytes: &mut Vec<u8>, turn: &Turn) -> Result<(), ApiError> {
    put(bytes, &Line::User((&*turn.user).into()))?;
    put(bytes, &Line::Answer)?;
    put(bytes, &Line::Piece((&*turn.answer).into()))?;
    put(bytes, &Line::End { remembered: true })
}

/// A whole journal.
fn lines<'a>(
    conversation: &Conversation,
    waiting: impl Iterator<Item = &'a String>,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    put(&mut bytes, &Line::Begin { system: conversation.system.as_deref().map(Cow::Borrowed) })?;
    for turn in &conversation.turns {
        put_turn(&mut bytes, turn)?;
    }
    for user in waiting {
        put(&mut bytes, &Line::User(user.into()))?;
    }
    Ok(bytes)
}

/// Says that what waited in another process does not wait in this one.
fn waits_no_more(waits: bool, inner: &mut Inner) -> Result<(), ApiError> {
    if waits { inner.write(&Line::Opened) } else { Ok(()) }
}

impl Inner {
    fn path(&self) -> &Path {
        self.claim.path()
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path().file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        self.path().with_file_name(name)
    }

    /// What is in the file; counts the bytes of its whole lines.
    fn read(&mut self) -> Result<Reader, ApiError> {
        let damaged = || ApiError::Damaged {
            path: self.claim.path().display().to_string(),
            reason: "it is not a chat's journal".to_owned(),
        };
        let mut read = Reader::default();
        let mut file = BufReader::new(&*self.file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            file.read_until(b'\n', &mut bytes).map_err(|error| {
                ApiError::other(format!("cannot read {}: {error}", self.claim.path().display()))
            })?;
            if !bytes.ends_with(b"\n") {
                // A journal's first line that was cut off may be written anew; anything else is someone's file.
                if number == 1 && !bytes.starts_with(START) && !START.starts_with(&bytes) {
                    return Err(damaged());
                }
                break;
            }
            match serde_json::from_slice(&bytes) {
                Ok(line) => read.line(line),
                Err(_) if number == 1 => return Err(damaged()),
                // Left by a full disk or a power cut: what is before and behind it is whole.
                Err(_) => {}
            }
            self.whole += bytes.len() as u64;
        }
        Ok(read)
    }

    /// A line, behind those for which there was no room before.
    fn write(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        self.settle()?;
        self.write_line(line)
    }

    /// A line about the oldest message that waits, which does not from now on.
    fn take_waiting(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        let waited = self.waiting.pop_front().is_some();
        let written = self.write(line);
        self.owed += usize::from(waited && written.is_err());
        written
    }

    /// Makes up for what could not be written.
    fn settle(&mut self) -> Result<(), ApiError> {
        if let Some(conversation) = self.owed_conversation.take() {
            let settled = self.replace(&conversation);
            if settled.is_err() {
                self.owed_conversation = Some(conversation);
            }
            settled?;
        }
        while self.owed > 0 {
            self.write_line(&Line::Dropped)?;
            self.owed -= 1;
        }
        Ok(())
    }

    /// Another conversation; messages go on waiting.
    fn replace(&mut self, conversation: &Conversation) -> Result<(), ApiError> {
        let anew = lines(conversation, self.waiting.iter())?;
        if self.write_anew(anew, false).is_ok() {
            self.owed = 0;
            return Ok(());
        }
        // A disk without room for both has room for the few lines more.
        self.write_line(&Line::Begin { system: conversation.system.as_deref().map(Cow::Borrowed) })?;
        conversation.turns.iter().try_for_each(|turn| self.append_turn(turn))
    }

    /// In one call, so that what is there of a line is its beginning; of a line that failed nothing is left.
    fn write_line(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        let mut bytes = std::mem::take(&mut self.line);
        bytes.clear();
        if self.torn {
            bytes.push(b'\n');
        }
        let written = put(&mut bytes, line).and_then(|()| {
            self.append(&bytes).map_err(|error| {
                self.torn = self.file.set_len(self.whole).is_err();
                cannot_write(self.path(), &error)
            })
        });
        if written.is_ok() {
            self.whole += bytes.len() as u64;
            self.torn = false;
        }
        self.line = bytes;
        written
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(room) = &mut self.room {
            let fits = bytes.len().min(*room);
            *room -= fits;
            (&*self.file).write_all(&bytes[..fits])?;
            return if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        }
        (&*self.file).write_all(bytes)
    }

    fn append_turn(&mut self, turn: &Turn) -> Result<(), ApiError> {
        self.write_line(&Line::User((&*turn.user).into()))?;
        self.write_line(&Line::Answer)?;
        self.write_line(&Line::Piece((&*turn.answer).into()))?;
        self.write_line(&Line::End { remembered: true })
    }

    /// Puts another file in this one's place, whole or not at all.
    fn write_anew(&mut self, mut bytes: Vec<u8>, opened: bool) -> Result<(), ApiError> {
        if opened {
            put(&mut bytes, &Line::Opened)?;
        }
        let temporary = self.temporary();
        let _ = fs::remove_file(&temporary);
        let written = (|| {
            let file = OpenOptions::new().read(true).append(true).create_new(true).open(&temporary)?;
            // Before it has the name; a file system without locks is used without.
            let _ = file.try_lock();
            #[cfg(test)]
            if self.room.is_some_and(|room| room < bytes.len()) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            (&file).write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path())?;
            Ok(file)
        })();
        let file = written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            cannot_write(self.path(), &error)
        })?;
        self.file = Arc::new(file);
        (self.whole, self.torn) = (bytes.len() as u64, false);
        self.sync_folder();
        Ok(())
    }

    /// A file's name outlasts a power cut once its folder is synced, where a system can do that.
    fn sync_folder(&self) {
        if let Some(folder) = self.path().parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;

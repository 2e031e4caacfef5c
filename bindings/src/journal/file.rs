//! A journal's file: appends whole lines, and makes up for what a full disk had no room for.

use super::line::{self, Line, START};
use super::replay::Replay;
use crate::ApiError;
use crate::claim::Claim;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thimble_chat::Conversation;

#[derive(Debug)]
pub(super) struct JournalFile {
    /// Shared with callers that wait for the disk.
    pub(super) file: Arc<File>,
    /// Bytes of its whole lines.
    whole: u64,
    /// Whether part of a line follows those and cannot be removed.
    torn: bool,
    /// Messages that wait for their answers.
    pub(super) waiting: VecDeque<String>,
    /// Messages that wait only on disk: it was too full for the lines that take them back.
    owed: usize,
    /// A conversation for which the disk was too full, too: it replaces the file's before the next line.
    pub(super) owed_conversation: Option<Conversation>,
    /// The line being written; its memory is kept for the next one.
    line: Vec<u8>,
    /// Keeps other chats of this process off the file. The last field: the file is closed before.
    pub(super) claim: Claim,
    /// Bytes that the disk has room for.
    #[cfg(test)]
    pub(super) room: Option<usize>,
}

/// Smaller journals are not rewritten when they are opened.
const SMALL: u64 = 16 << 10;

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> ApiError {
    ApiError::other(format!("cannot write {}: {error}", path.display()))
}

impl JournalFile {
    /// Opens the file, or makes an empty one, and reads what it records.
    pub(super) fn open(path: &str) -> Result<(JournalFile, Replay), ApiError> {
        let failed = |error: io::Error| ApiError::other(format!("cannot open {path}: {error}"));
        let options = || OpenOptions::new().read(true).append(true).create(true).open(Path::new(path));
        drop(options().map_err(failed)?);
        let claim = Claim::new(fs::canonicalize(path).map_err(failed)?)?;
        let file = claim.lock(options).map_err(failed)?;
        let mut journal = JournalFile {
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
        // Left by a process that was killed while it rewrote the journal.
        let _ = fs::remove_file(journal.temporary());
        let replay = journal.read()?;
        journal.file.set_len(journal.whole).map_err(failed)?;
        Ok((journal, replay))
    }

    /// Begins the first conversation, if there is none; whether that was so.
    pub(super) fn begin(&mut self, system: Option<&str>) -> Result<bool, ApiError> {
        let empty = self.whole == 0;
        if empty {
            self.write(&Line::begin(system))?;
            self.sync_folder();
        }
        Ok(empty)
    }

    /// Takes over from the process that wrote `replay`, and rewrites a journal that is mostly forgotten.
    pub(super) fn take_over(&mut self, replay: &mut Replay) -> Result<(), ApiError> {
        let waits = replay.waits();
        replay.leave();
        let bytes = line::whole(&replay.conversation, replay.left.iter())?;
        let rewrite = self.whole > SMALL && self.whole > 2 * bytes.len() as u64;
        // On a full disk the old file still serves.
        let rewritten = rewrite && self.rewrite(bytes, !replay.left.is_empty()).is_ok();
        if waits && !rewritten { self.write(&Line::Opened) } else { Ok(()) }
    }

    pub(super) fn path(&self) -> &Path {
        self.claim.path()
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path().file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        self.path().with_file_name(name)
    }

    /// Reads the file and counts the bytes of its whole lines.
    fn read(&mut self) -> Result<Replay, ApiError> {
        let damaged = || ApiError::Damaged {
            path: self.claim.path().display().to_string(),
            reason: "it is not a chat's journal".to_owned(),
        };
        let mut replay = Replay::default();
        let mut file = BufReader::new(&*self.file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            file.read_until(b'\n', &mut bytes).map_err(|error| {
                ApiError::other(format!("cannot read {}: {error}", self.claim.path().display()))
            })?;
            if !bytes.ends_with(b"\n") {
                // A journal's truncated first line may be overwritten; anything else is someone's file.
                if number == 1 && !bytes.starts_with(START) && !START.starts_with(&bytes) {
                    return Err(damaged());
                }
                break;
            }
            match serde_json::from_slice(&bytes) {
                Ok(line) => replay.line(line),
                Err(_) if number == 1 => return Err(damaged()),
                // Left by a full disk or a power cut: the lines before and after it are whole.
                Err(_) => {}
            }
            self.whole += bytes.len() as u64;
        }
        Ok(replay)
    }

    /// Writes a line, after those for which there was no room before.
    pub(super) fn write(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        self.settle()?;
        self.write_line(line)
    }

    /// Writes a line after which the oldest waiting message waits no more.
    pub(super) fn take_waiting(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        let waited = self.waiting.pop_front().is_some();
        let written = self.write(line);
        self.owed += usize::from(waited && written.is_err());
        written
    }

    /// Makes up for what could not be written.
    pub(super) fn settle(&mut self) -> Result<(), ApiError> {
        if let Some(conversation) = self.owed_conversation.take() {
            let settled = self.replace(&conversation);
            if settled.is_err() {
                self.owed_conversation = Some(conversation);
            }
            settled?;
        }
        while self.owed > 0 {
            self.write_line(&Line::Withdrawn)?;
            self.owed -= 1;
        }
        Ok(())
    }

    /// Replaces the conversation; waiting messages go on waiting.
    fn replace(&mut self, conversation: &Conversation) -> Result<(), ApiError> {
        let bytes = line::whole(conversation, self.waiting.iter())?;
        if self.rewrite(bytes, false).is_ok() {
            self.owed = 0;
            return Ok(());
        }
        // A disk without room for a second file has room for a few more lines.
        self.write_line(&Line::begin(conversation.system.as_deref()))?;
        conversation.turns.iter().flat_map(Line::turn).try_for_each(|line| self.write_line(&line))
    }

    /// Writes a line in one call, so that a torn line is its beginning; a write that fails leaves nothing.
    fn write_line(&mut self, line: &Line<'_>) -> Result<(), ApiError> {
        let mut bytes = std::mem::take(&mut self.line);
        bytes.clear();
        if self.torn {
            bytes.push(b'\n');
        }
        let written = line.put(&mut bytes).and_then(|()| {
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

    /// Replaces the file by another one, atomically.
    fn rewrite(&mut self, mut bytes: Vec<u8>, opened: bool) -> Result<(), ApiError> {
        if opened {
            Line::Opened.put(&mut bytes)?;
        }
        let temporary = self.temporary();
        let _ = fs::remove_file(&temporary);
        let written = (|| {
            let file = OpenOptions::new().read(true).append(true).create_new(true).open(&temporary)?;
            // Before it has the name; a file system without locks is used without one.
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

    /// Syncs the folder, where a system can do that: the file's name then survives a power cut.
    fn sync_folder(&self) {
        if let Some(folder) = self.path().parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
    }
}

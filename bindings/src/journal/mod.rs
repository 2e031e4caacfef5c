//! A chat on disk before it is shown: when a killed app opens again, what was on its screen is there.
//!
//! Lines of JSON are appended: a system message; each message of the user as it is sent; the start of its answer, the
//! pieces of the answer and its calls of tools as they are made, and its end; the results of calls, which a further answer
//! follows. Messages wait for their answers in the order they were sent. An
//! unfinished line is skipped; a turn without an end keeps as much of the answer as there is.

mod file;
mod line;
mod replay;

use crate::ApiError;
use file::{JournalFile, cannot_write};
use line::Line;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thimble_chat::Conversation;
use thimble_chat::tools::ToolCall;

/// An open journal, for the chat and its thread.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Mutex<JournalFile>>);

/// What a journal holds, or a chat begins with.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The conversation.
    pub(crate) conversation: Conversation,
    /// Later messages, without any answer shown; a line break between two.
    pub(crate) unanswered: Option<String>,
}

impl Journal {
    /// Opens the journal, or makes one that holds `begun`, and returns what it holds of a conversation.
    ///
    /// # Errors
    /// Another chat has it open, the file is no journal, or it cannot be written.
    pub(crate) fn open(path: &str, begun: Held) -> Result<(Journal, Held), ApiError> {
        let (mut file, mut replay) = JournalFile::open(path)?;
        let held = if file.begin(begun.conversation.system.as_deref())? {
            if !begun.conversation.turns.is_empty() {
                file.owed_conversation = Some(begun.conversation.clone());
                file.settle()?;
            }
            if let Some(user) = &begun.unanswered {
                file.write(&Line::User(user.into()))?;
                // It waits for no answer yet: it comes back as unanswered.
                file.write(&Line::Opened)?;
            }
            begun
        } else {
            file.take_over(&mut replay)?;
            let unanswered = (!replay.left.is_empty()).then(|| replay.left.join("\n"));
            Held { conversation: replay.conversation, unanswered }
        };
        Ok((Journal(Arc::new(Mutex::new(file))), held))
    }

    fn file(&self) -> MutexGuard<'_, JournalFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chat is being dropped: whoever opens the journal next waits for that.
    pub(crate) fn closing(&self) {
        self.file().claim.closing();
    }

    /// Replaces the conversation, which is then gone from the disk.
    pub(crate) fn replace(&self, conversation: &Conversation) -> Result<(), ApiError> {
        let mut file = self.file();
        file.owed_conversation = Some(conversation.clone());
        file.settle()
    }

    /// A message, before anything else is done with it.
    pub(crate) fn user(&self, text: &str) -> Result<(), ApiError> {
        let mut file = self.file();
        file.write(&Line::User(text.into()))?;
        file.waiting.push_back(text.to_owned());
        Ok(())
    }

    /// The answer to the oldest waiting message begins.
    pub(crate) fn answer(&self) -> Result<(), ApiError> {
        self.file().take_waiting(&Line::Answer)
    }

    /// The oldest waiting message is not answered.
    pub(crate) fn dropped(&self) -> Result<(), ApiError> {
        self.file().take_waiting(&Line::Withdrawn)
    }

    /// More of the answer, before it is shown.
    pub(crate) fn piece(&self, text: &str) -> Result<(), ApiError> {
        self.file().write(&Line::Piece(text.into()))
    }

    /// A call of a tool, before the app learns of it.
    pub(crate) fn call(&self, call: &ToolCall) -> Result<(), ApiError> {
        self.file().write(&Line::Call(Cow::Borrowed(call)))
    }

    /// The results of the last turn's calls; the answer to them begins.
    pub(crate) fn results(&self, results: &[String]) -> Result<(), ApiError> {
        self.file().write(&Line::Results(results.into()))
    }

    /// The end of an answer. Earlier lines survive a killed process; from here on they survive a power cut, too.
    pub(crate) fn end(&self, remembered: bool) -> Result<(), ApiError> {
        let mut journal = self.file();
        journal.write(&Line::End { remembered })?;
        let (file, path) = (Arc::clone(&journal.file), journal.path().to_owned());
        // A message sent meanwhile does not wait for the disk.
        drop(journal);
        file.sync_data().map_err(|error| cannot_write(&path, &error))
    }

    /// The last message is answered again; until part of that answer is shown, the old one stays.
    pub(crate) fn again(&self) -> Result<(), ApiError> {
        self.file().write(&Line::Again)
    }

    /// The oldest turns are forgotten.
    pub(crate) fn forget(&self, turns: usize) -> Result<(), ApiError> {
        if turns == 0 {
            return Ok(());
        }
        self.file().write(&Line::Forget(turns))
    }
}

#[cfg(test)]
mod tests;

//! What a chat keeps when it goes on with another model.

use super::settings::ChatSettings;
use crate::adapters::AdapterFlags;
use crate::attach::AttachedFile;
use crate::chats::{self, ChatLock, Chats, KeptChat};
use crate::failure::Failure;
use crate::model::Location;
use crate::terminal;
use thimble_chat::{Conversation, Turn};

/// The model, the settings and the conversation of a chat.
pub(super) struct ChatState {
    pub(super) location: Location,
    pub(super) adapters: AdapterFlags,
    pub(super) settings: ChatSettings,
    /// Between two sessions; a session has it.
    pub(super) conversation: Conversation,
    /// Turns that the context has no more room for, oldest first. They are kept all the same.
    pub(super) dropped: Vec<Turn>,
    /// What `/file` puts before the next message.
    pub(super) attached: Vec<AttachedFile>,
    pub(super) keeper: Keeper,
    /// Whether the conversation comes from an earlier chat and was not shown yet.
    pub(super) resumed: bool,
    /// Inputs that failed.
    pub(super) failed: usize,
}

impl ChatState {
    /// The conversation with the turns that were dropped.
    pub(super) fn whole(&self, conversation: &Conversation) -> Conversation {
        let turns = self.dropped.iter().chain(&conversation.turns).cloned().collect();
        Conversation { system: conversation.system.clone(), turns }
    }
}

/// Keeps a conversation on disk after each answer.
pub(super) struct Keeper {
    /// Where to; `None` keeps nothing.
    chats: Option<Chats>,
    /// The file of this conversation, once it has one.
    lock: Option<ChatLock>,
}

impl Keeper {
    /// Keeps conversations in `chats`, if there is such a place.
    pub(super) fn new(chats: Option<Chats>) -> Keeper {
        Keeper { chats, lock: None }
    }

    /// The name that the conversation has so far.
    pub(super) fn name(&self) -> Option<&str> {
        self.lock.as_ref().map(|lock| &*lock.name)
    }

    /// Whether conversations are kept.
    pub(super) fn keeps(&self) -> bool {
        self.chats.is_some()
    }

    /// Keeps the conversation under a new name.
    ///
    /// # Errors
    /// The name is taken, or is none.
    pub(super) fn name_new(&mut self, chats: Chats, name: &str) -> Result<(), Failure> {
        chats::check_name(name).map_err(Failure::Usage)?;
        let lock = chats.lock_new(name)?;
        if lock.name != name {
            return Err(Failure::Usage(format!(
                "a conversation is called {name} already: choose another name, or continue it with `thimble chat --continue \
                 {name:?}`"
            )));
        }
        (self.chats, self.lock) = (Some(chats), Some(lock));
        Ok(())
    }

    /// Continues a conversation: `name`, or the last one. Where another chat has it open, a copy is continued.
    ///
    /// # Errors
    /// There is none; it is damaged.
    pub(super) fn resume(&mut self, chats: Chats, name: Option<&str>) -> Result<KeptChat, Failure> {
        let last = || chats.names().into_iter().next();
        let nothing =
            || Failure::Usage("there is no conversation to continue: `thimble chat` begins one".to_string());
        let name = name.map(str::to_string).or_else(last).ok_or_else(nothing)?;
        // Before the lock, which would make a file for a name that is not there.
        chats.read(&name)?;
        let lock = match chats.lock(&name)? {
            Some(lock) => lock,
            None => {
                let copy = chats.lock_new(&name)?;
                terminal::note(&format!(
                    "({name} is open in another chat: this one continues as {})",
                    copy.name
                ));
                copy
            }
        };
        // Once more: nobody writes it from here on.
        let kept = chats.read(&name)?;
        (self.chats, self.lock) = (Some(chats), Some(lock));
        Ok(kept)
    }

    /// Gives the conversation another name.
    ///
    /// # Errors
    /// The name is taken, or is none; the file cannot be written.
    pub(super) fn rename(
        &mut self,
        chats: Chats,
        name: &str,
        model: &str,
        conversation: &Conversation,
    ) -> Result<(), Failure> {
        let old = self.lock.take();
        if let Err(failure) = self.name_new(chats, name) {
            self.lock = old;
            return Err(failure);
        }
        if conversation.turns.is_empty() {
            return Ok(());
        }
        self.keep(model, conversation)?;
        let Some(old) = old.map(|old| old.name.clone()) else { return Ok(()) };
        match &self.chats {
            Some(chats) if chats.read(&old).is_ok() => chats.remove(&old),
            _ => Ok(()),
        }
    }

    /// The conversation is another one from here on.
    pub(super) fn begin(&mut self) {
        self.lock = None;
    }

    /// Writes the conversation, if there is anything in it.
    pub(super) fn keep(&mut self, model: &str, conversation: &Conversation) -> Result<(), Failure> {
        let (Some(chats), Some(first)) = (&self.chats, conversation.turns.first()) else { return Ok(()) };
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => chats.lock_new(&chats::name_of(&first.user))?,
        };
        let written = chats.write(&lock, model, conversation);
        self.lock = Some(lock);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::Keeper;
    use crate::chats::Chats;
    use crate::home::Home;
    use thimble_chat::{Conversation, Turn};

    fn talk(messages: &[&str]) -> Conversation {
        Conversation { system: None, turns: messages.iter().map(|message| Turn::new(*message)).collect() }
    }

    #[test]
    fn two_chats_at_once_keep_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::of(&Home::at(folder.path()));
        let mut first = Keeper::new(Some(chats.clone()));
        let mut second = Keeper::new(Some(chats.clone()));
        first.keep("m", &talk(&["Hello there"])).unwrap();
        second.keep("m", &talk(&["Hello there"])).unwrap();
        assert_eq!((first.name(), second.name()), (Some("hello-there"), Some("hello-there-2")));
        // A conversation that is open is continued as a copy.
        let mut third = Keeper::new(None);
        let kept = third.resume(chats.clone(), Some("hello-there")).unwrap();
        assert_eq!(kept.conversation, talk(&["Hello there"]));
        assert_eq!(third.name(), Some("hello-there-3"));
        third.keep("m", &talk(&["Hello there", "again"])).unwrap();
        assert_eq!(chats.read("hello-there").unwrap().conversation.turns.len(), 1);
        drop((first, second, third));
        let mut fourth = Keeper::new(None);
        fourth.resume(chats.clone(), Some("hello-there")).unwrap();
        assert_eq!(fourth.name(), Some("hello-there"));
        assert!(Keeper::new(None).resume(chats, Some("none")).is_err());
    }

    #[test]
    fn a_conversation_can_be_renamed_and_another_begun() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::of(&Home::at(folder.path()));
        let mut keeper = Keeper::new(Some(chats.clone()));
        keeper.keep("m", &talk(&["one"])).unwrap();
        keeper.rename(chats.clone(), "mine", "m", &talk(&["one"])).unwrap();
        assert_eq!(chats.names(), ["mine"]);
        keeper.begin();
        keeper.keep("m", &talk(&["two"])).unwrap();
        let taken = keeper.rename(chats.clone(), "mine", "m", &talk(&["two"])).unwrap_err();
        assert!(taken.to_string().contains("already"), "{taken}");
        assert_eq!(keeper.name(), Some("two"));
        let mut none = Keeper::new(None);
        none.keep("m", &talk(&["three"])).unwrap();
        let mut names = chats.names();
        names.sort();
        assert_eq!(names, ["mine", "two"]);
    }
}

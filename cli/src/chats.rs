//! Conversations that are kept by name in the home, each a file of `thimble chat`.

use crate::failure::Failure;
use crate::home::Home;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use thimble_chat::{Conversation, SavedConversation};

/// Longest name in bytes: with a number and an extension it is a file name everywhere.
const MAX_NAME: usize = 100;
/// Words of the first message that name a conversation.
const NAME_WORDS: usize = 5;

/// The folder of kept conversations.
#[derive(Clone, Debug)]
pub(crate) struct Chats {
    folder: PathBuf,
}

/// A kept conversation.
pub(crate) struct KeptChat {
    pub(crate) name: String,
    pub(crate) modified: SystemTime,
    /// The model that answered last.
    pub(crate) model: Option<String>,
    pub(crate) conversation: Conversation,
}

/// The right to write a conversation; the operating system releases it when the process ends.
#[derive(Debug)]
pub(crate) struct ChatLock {
    pub(crate) name: String,
    _file: File,
}

impl Chats {
    /// The conversations of a home.
    pub(crate) fn of(home: &Home) -> Chats {
        Chats { folder: home.chats() }
    }

    /// The names, those written last first.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<(SystemTime, String)> = entries
            .filter_map(|entry| {
                let file = entry.file_name().into_string().ok()?;
                let name = file.strip_suffix(".json").filter(|name| check_name(name).is_ok())?;
                Some((entry.metadata().ok()?.modified().ok()?, name.to_string()))
            })
            .collect();
        names.sort_by(|a, b| b.cmp(a));
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Reads a conversation.
    ///
    /// # Errors
    /// There is none of this name; it is damaged.
    pub(crate) fn read(&self, name: &str) -> Result<KeptChat, Failure> {
        let path = self.path(name);
        let known = check_name(name).is_ok() && path.is_file();
        if !known {
            return Err(self.unknown(name));
        }
        let (model, conversation) = SavedConversation::read_with_model(&path)?;
        let modified = fs::metadata(&path).and_then(|data| data.modified());
        let modified = modified.map_err(|source| Failure::io("read", &path, source))?;
        Ok(KeptChat { name: name.to_string(), modified, model, conversation })
    }

    /// Writes a conversation whole or not at all.
    pub(crate) fn write(
        &self,
        lock: &ChatLock,
        model: &str,
        conversation: &Conversation,
    ) -> Result<(), Failure> {
        Ok(SavedConversation::new(model, conversation).write(&self.path(&lock.name))?)
    }

    /// Locks a conversation, present or not; `None` if another process has it.
    pub(crate) fn lock(&self, name: &str) -> Result<Option<ChatLock>, Failure> {
        check_name(name).map_err(Failure::Usage)?;
        self.create()?;
        let path = self.folder.join(format!(".{name}.lock"));
        let failed = |source| Failure::io("lock", &path, source);
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Some(ChatLock { name: name.to_string(), _file: file }))
    }

    /// Locks a new conversation: `name`, or `name` with a number if that is taken.
    pub(crate) fn lock_new(&self, name: &str) -> Result<ChatLock, Failure> {
        for number in 1.. {
            let tried = if number == 1 { name.to_string() } else { format!("{name}-{number}") };
            if self.path(&tried).exists() {
                continue;
            }
            // Another process may have written it before the lock.
            let lock = self.lock(&tried)?.filter(|_| !self.path(&tried).exists());
            if let Some(lock) = lock {
                return Ok(lock);
            }
        }
        Err(Failure::other(
            "every name for the conversation is taken: remove some with `thimble chats rm NAME`",
        ))
    }

    /// Deletes a conversation.
    ///
    /// # Errors
    /// There is none of this name; a chat has it open.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        if check_name(name).is_err() || !path.is_file() {
            return Err(self.unknown(name));
        }
        let Some(_lock) = self.lock(name)? else {
            return Err(Failure::Other(format!(
                "the conversation {name} is open in another chat: leave that first"
            )));
        };
        fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, error))?;
        let _ = fs::remove_file(self.folder.join(format!(".{name}.lock")));
        Ok(())
    }

    fn unknown(&self, name: &str) -> Failure {
        let names = self.names();
        let likeness = |known: &&String| strsim::jaro_winkler(name, known);
        let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let hint = match nearest.filter(|known| likeness(known) > 0.8) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "`thimble chats` lists them".to_string(),
        };
        Failure::Usage(format!("no conversation is called {name:?}: {hint}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Creates the folder, readable by its owner alone: people say private things.
    fn create(&self) -> Result<(), Failure> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let folder: &Path = &self.folder;
        builder.create(folder).map_err(|source| Failure::io("create the folder", folder, source))
    }
}

/// Refuses what is no plain file name everywhere.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    let fits = (1..=MAX_NAME).contains(&name.len());
    match fits && name.chars().all(plain) && !name.starts_with(['.', '-', ' ']) && !name.ends_with([' ', '.'])
    {
        true => Ok(()),
        false => Err(format!(
            "{name:?} cannot name a conversation: expected at most {MAX_NAME} bytes of letters, digits, `-`, `_`, `.` and \
             spaces, beginning with a letter or a digit"
        )),
    }
}

/// A name from the first words of a message.
pub(crate) fn name_of(message: &str) -> String {
    let words = message.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.take(NAME_WORDS).collect::<Vec<_>>().join("-").to_lowercase();
    name.truncate(name.floor_char_boundary(MAX_NAME / 2));
    match check_name(&name) {
        Ok(()) => name,
        Err(_) => "chat".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Chats, check_name, name_of};
    use crate::home::Home;
    use thimble_chat::{Conversation, Turn};

    fn talk(message: &str) -> Conversation {
        Conversation { system: None, turns: vec![Turn { answer: "yes".to_string(), ..Turn::new(message) }] }
    }

    #[test]
    fn conversations_come_back_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::of(&Home::at(folder.path()));
        assert!(chats.names().is_empty());
        let first = chats.lock_new("talk").unwrap();
        chats.write(&first, "m", &talk("one")).unwrap();
        let second = chats.lock_new("talk").unwrap();
        assert_eq!(second.name, "talk-2");
        chats.write(&second, "m", &talk("two")).unwrap();
        let kept = chats.read("talk").unwrap();
        assert_eq!((kept.model.as_deref(), &kept.conversation), (Some("m"), &talk("one")));
        let mut names = chats.names();
        names.sort();
        assert_eq!(names, ["talk", "talk-2"]);
        // An open conversation is neither taken nor removed.
        assert!(chats.lock("talk").unwrap().is_none());
        assert!(chats.remove("talk").unwrap_err().to_string().contains("open in another chat"));
        drop(first);
        assert!(chats.lock("talk").unwrap().is_some());
        chats.remove("talk").unwrap();
        assert_eq!(chats.names(), ["talk-2"]);
        let unknown = chats.remove("talk-3").unwrap_err();
        assert!(unknown.to_string().contains("did you mean talk-2?"), "{unknown}");
    }

    #[test]
    #[cfg(unix)]
    fn the_folder_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        Chats::of(&home).lock("x").unwrap();
        assert_eq!(std::fs::metadata(home.chats()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", "..", "a/b", ".x", "-x", "a\\b", "a\nb", "x.", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("my talk 2.b_c-d").is_ok());
    }

    #[test]
    fn the_first_words_name_a_conversation() {
        assert_eq!(name_of("What is the capital of Norway?"), "what-is-the-capital-of");
        assert_eq!(name_of("../../etc/passwd"), "etc-passwd");
        assert_eq!(name_of("日本語"), "日本語");
        assert_eq!(name_of("?!"), "chat");
        assert!(check_name(&name_of(&"é".repeat(500))).is_ok());
    }
}

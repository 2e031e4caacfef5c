//! The folder for models, conversions, data sets, conversations, the chat history and what `--backend auto` chose.

use crate::catalogue;
use crate::failure::Failure;
use crate::repository;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use thimble_files::{cached_model, model_file_stem, models_folder};

/// `$THIMBLE_HOME`, or `thimble` in the platform's cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
}

/// Held while a process fetches or converts a model; the operating system releases it when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    exclusive: bool,
}

impl Lock {
    /// Whether it keeps other processes out: not on a file system without locks.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Home {
    /// Finds the folder without creating it.
    pub(crate) fn find() -> Result<Home, Failure> {
        thimble_files::home_folder().map(|folder| Home { folder }).ok_or(Failure::NoHome)
    }

    /// A home in this folder.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Home {
        Home { folder: folder.to_path_buf() }
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the model of this catalogue or repository name, present or not.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        cached_model(&self.folder, name)
    }

    /// The repositories whose models are here, in alphabetical order.
    pub(crate) fn repositories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.models()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            repository::from_file_stem(name.strip_suffix(".thimble")?)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The models that are here and not in the catalogue, in alphabetical order: of repositories, and by names that
    /// `thimble cp` gave them.
    pub(crate) fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(self.models()).into_iter().flatten().flatten();
        let local = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?.strip_suffix(".thimble")?.to_string();
            (repository::is_local(&name) && catalogue::find(&name).is_none()).then_some(name)
        });
        let mut names = self.repositories();
        names.extend(local);
        names.sort();
        names
    }

    /// Data sets from the hub.
    #[cfg(feature = "eval")]
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What `--backend auto` chose.
    pub(crate) fn backends(&self) -> PathBuf {
        self.folder.join("backends.json")
    }

    /// Shaders compiled for this machine's GPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn pipelines(&self) -> PathBuf {
        self.folder.join("pipelines")
    }

    /// Models of other formats by path, converted.
    pub(crate) fn converted(&self) -> PathBuf {
        self.folder.join("converted")
    }

    /// The list of what [`Home::converted`] holds.
    pub(crate) fn conversion_index(&self) -> PathBuf {
        self.converted().join("index.json")
    }

    /// Waits until no other process converts a model or removes a conversion; `note` gets a line if it has to wait.
    pub(crate) fn lock_converted(&self, note: impl FnOnce(&str)) -> Result<Lock, Failure> {
        self.lock("converted", || note("another thimble is converting a model: waiting for it"))
    }

    /// The chat's line history.
    pub(crate) fn history(&self) -> PathBuf {
        self.folder.join("history.txt")
    }

    /// Kept conversations.
    pub(crate) fn chats(&self) -> PathBuf {
        self.folder.join("chats")
    }

    /// Folder for files being fetched for this name; owned by the holder of its [`Lock`].
    pub(crate) fn staging(&self, name: &str) -> PathBuf {
        self.models().join(format!(".{}.fetching", model_file_stem(name)))
    }

    /// Creates the folders. Errors name the folder.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        for folder in [self.models(), self.converted()] {
            fs::create_dir_all(&folder)
                .map_err(|source| Failure::io("create the folder", &folder, source))?;
        }
        Ok(())
    }

    /// Waits until no other process fetches this model; calls `waiting` once if it has to wait.
    pub(crate) fn lock(&self, name: &str, waiting: impl FnOnce()) -> Result<Lock, Failure> {
        self.create()?;
        let path = self.models().join(format!(".{}.lock", model_file_stem(name)));
        let failed = |source| Failure::io("lock", &path, source);
        let file = File::create(&path).map_err(failed)?;
        let mut exclusive = true;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(failed)?;
            }
            // A file system without locks: concurrent pulls repeat the work, but the final rename is still atomic.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                exclusive = false;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Lock { _file: file, exclusive })
    }

    fn models(&self) -> PathBuf {
        models_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::Home;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_second_lock_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let first = home.lock("m", || panic!("nobody holds it yet")).unwrap();
        let waited = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| home.lock("m", || waited.store(true, Ordering::SeqCst)).unwrap());
            while !waited.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            assert!(!second.is_finished());
            drop(first);
            second.join().unwrap();
        });
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = Home::at(&file).create().unwrap_err().to_string();
        assert!(message.contains("file"), "{message}");
    }
}

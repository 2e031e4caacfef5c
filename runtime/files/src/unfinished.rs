//! What is being written and not finished, so that a program that is told to end can take it away.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Paths that are not finished.
#[derive(Debug)]
struct Register(Mutex<Vec<PathBuf>>);

static REGISTER: Register = Register::new();

impl Register {
    const fn new() -> Register {
        Register(Mutex::new(Vec::new()))
    }

    fn note(&'static self, path: &Path) -> Unfinished {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Unfinished { register: self, path: path.to_owned() }
    }

    fn remove(&self) {
        for path in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What cannot be removed stays: there is no one left to tell.
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// A file or folder that is not finished while this lives.
#[derive(Debug)]
pub(crate) struct Unfinished {
    register: &'static Register,
    path: PathBuf,
}

impl Unfinished {
    /// Notes a path.
    pub(crate) fn new(path: &Path) -> Unfinished {
        REGISTER.note(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.register.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.path);
    }
}

/// Removes every file and folder that this process is writing and has not finished; for the moment before it ends.
pub fn remove_unfinished() {
    REGISTER.remove();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_goes_and_what_is_finished_stays() {
        static REGISTER: Register = Register::new();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for file in ["finished", "file"] {
            std::fs::write(path(file), "").unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("folder/file"), "").unwrap();
        drop(REGISTER.note(&path("finished")));
        let unfinished = ["file", "folder", "not made yet"].map(|name| REGISTER.note(&path(name)));
        REGISTER.remove();
        drop(unfinished);
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["finished"]);
    }
}

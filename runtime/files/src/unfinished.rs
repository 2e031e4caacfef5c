//! Registers unfinished files and folders, so that an interrupted program can remove them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Unfinished paths.
#[derive(Debug)]
struct Register(Mutex<Vec<PathBuf>>);

static REGISTER: Register = Register::new();

impl Register {
    const fn new() -> Register {
        Register(Mutex::new(Vec::new()))
    }

    fn add(&'static self, path: &Path) -> Unfinished {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Unfinished { register: self, path: path.to_owned() }
    }

    fn remove(&self) {
        for path in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What cannot be removed stays: nobody is left to report it to.
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// Registers a file or folder as unfinished until it is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    register: &'static Register,
    path: PathBuf,
}

impl Unfinished {
    /// Registers a path.
    pub(crate) fn new(path: &Path) -> Unfinished {
        REGISTER.add(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.register.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.path);
    }
}

/// Removes all unfinished files and folders of this process. Called just before it ends.
pub fn remove_unfinished() {
    REGISTER.remove();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_paths_are_removed_and_finished_ones_stay() {
        static REGISTER: Register = Register::new();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for file in ["finished", "file"] {
            std::fs::write(path(file), "").unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("folder/file"), "").unwrap();
        drop(REGISTER.add(&path("finished")));
        let unfinished = ["file", "folder", "not made yet"].map(|name| REGISTER.add(&path(name)));
        REGISTER.remove();
        drop(unfinished);
        let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["finished"]);
    }
}

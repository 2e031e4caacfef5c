//! Only one chat at a time uses a journal: a table enforces it within the process, a file lock between processes.
//!
//! The table covers systems without file locks, such as Android, and distinguishes a chat that is being dropped, which is
//! worth waiting for, from one that is in use.

use crate::ApiError;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Journals that are open in this process, and whether their chat is being dropped.
static OPEN: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
static CHANGED: Condvar = Condvar::new();

/// How long a chat that is being dropped may hold its journal: a prompt's 192 tokens on a slow device.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long any other chat may: its object may be about to be dropped.
const HASTE: Duration = Duration::from_millis(250);

fn table() -> MutexGuard<'static, BTreeMap<PathBuf, bool>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to a file within this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim(PathBuf);

impl Claim {
    /// Claims a file by its canonical path.
    ///
    /// # Errors
    /// Another chat holds it and is not being dropped.
    pub(crate) fn new(path: PathBuf) -> Result<Claim, ApiError> {
        let begin = Instant::now();
        let mut open = table();
        while let Some(&closing) = open.get(&path) {
            let most = if closing { PATIENCE } else { HASTE };
            let Some(left) = most.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(ApiError::other(in_use(&path)));
            };
            (open, _) = CHANGED.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner);
        }
        open.insert(path.clone(), false);
        Ok(Claim(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Notes that its chat is being dropped.
    pub(crate) fn closing(&self) {
        table().insert(self.0.clone(), true);
        CHANGED.notify_all();
    }

    /// Opens the file and locks it against other processes.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be opened.
    pub(crate) fn lock(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        let begin = Instant::now();
        loop {
            let file = open()?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &self.0)? => return Ok(file),
                // A file system without locks is used without one.
                Err(TryLockError::Error(_)) => return Ok(file),
                Ok(()) | Err(TryLockError::WouldBlock) if begin.elapsed() < HASTE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return Err(io::Error::other(in_use(&self.0))),
            }
        }
    }
}

fn in_use(path: &Path) -> String {
    format!("{} is in use by another chat: close that one", path.display())
}

/// Whether no other process has replaced the file meanwhile.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (mine, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> io::Result<bool> {
    fs::exists(path)
}

impl Drop for Claim {
    fn drop(&mut self) {
        table().remove(&self.0);
        CHANGED.notify_all();
    }
}

//! Checks of the run folder: its files and its lock.

use crate::error::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::Path;

/// The lock of every run folder.
const LOCK: &str = ".lock";

/// Refuses a folder with files of something else.
pub(super) fn check(run: &Path) -> Result<()> {
    let used = run.is_dir() && std::fs::read_dir(run).map_err(Error::file(run, "read"))?.next().is_some();
    if used && !run.join(LOCK).exists() {
        return Err(Error::Usage(format!(
            "{} holds files that are not a run's: choose another folder with --run",
            run.display()
        )));
    }
    Ok(())
}

/// Makes the folder one of a run, in which what the run reads can be put before it starts.
///
/// # Errors
/// It holds files of something else, or cannot be written.
pub fn claim(run: &Path) -> Result<()> {
    check(run)?;
    std::fs::create_dir_all(run).map_err(Error::file(run, "create"))?;
    let path = run.join(LOCK);
    File::options().create(true).append(true).open(&path).map_err(Error::file(&path, "create")).map(|_| ())
}

/// Locks the run folder; the system releases the lock when the process ends.
pub(super) fn lock(run: &Path) -> Result<File> {
    let path = run.join(LOCK);
    let file = File::create(&path).map_err(Error::file(&path, "create"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Invalid(format!(
            "another thimble-train is using {}: wait for it, or choose another folder with --run",
            run.display()
        ))),
        // A file system without locks is no reason not to train.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

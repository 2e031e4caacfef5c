//! A folder that appears under its name only when it is complete.

use crate::ConvertError;
use crate::unfinished::Unfinished;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that is being written beside its destination.
///
/// Dropped before [`AtomicFolder::publish`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFolder {
    unfinished: TempDir,
    _noted: Unfinished,
    destination: PathBuf,
    parent: PathBuf,
}

impl AtomicFolder {
    /// Makes a temporary folder where the destination is to be.
    ///
    /// # Errors
    /// [`ConvertError::Exists`] where something is there already.
    pub fn create(destination: &Path) -> Result<AtomicFolder, ConvertError> {
        if destination.symlink_metadata().is_ok() {
            return Err(ConvertError::Exists { path: destination.to_owned() });
        }
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let fail = |source| ConvertError::Write { path: destination.to_owned(), source };
        fs::create_dir_all(&parent).map_err(fail)?;
        let unfinished = tempfile::Builder::new().prefix(".exporting-").tempdir_in(&parent).map_err(fail)?;
        let _noted = Unfinished::new(unfinished.path());
        Ok(AtomicFolder { unfinished, _noted, destination: destination.to_owned(), parent })
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        self.unfinished.path()
    }

    /// Writes a whole file into it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let path = self.path().join(name);
        fs::write(&path, bytes).map_err(|source| ConvertError::Write { path, source })
    }

    /// Makes every file durable and gives the folder its name.
    ///
    /// # Errors
    /// The system refuses; the folder is then gone.
    pub fn publish(self) -> Result<(), ConvertError> {
        self.settle().map_err(|source| ConvertError::Write { path: self.destination.clone(), source })?;
        // It has another name now: there is nothing left to remove.
        let _ = self.unfinished.keep();
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            File::open(entry?.path())?.sync_all()?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary folder is its owner's alone.
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::rename(self.path(), &self.destination)?;
        #[cfg(unix)]
        File::open(&self.parent)?.sync_all()?;
        Ok(())
    }
}

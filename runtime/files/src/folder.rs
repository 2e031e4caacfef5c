//! A folder that appears under its name only when it is complete.

use crate::atomic::sync_folder;
use crate::output::parent;
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
    temporary: TempDir,
    _unfinished: Unfinished,
    destination: PathBuf,
}

impl AtomicFolder {
    /// Creates a temporary folder beside `destination`, and the folders above it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something is there already, or the system refuses.
    pub fn create(destination: &Path) -> io::Result<AtomicFolder> {
        if destination.symlink_metadata().is_ok() {
            let what = "it exists already: choose another folder or remove it";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let parent = parent(destination);
        fs::create_dir_all(parent)?;
        let temporary = tempfile::Builder::new().prefix(".exporting-").tempdir_in(parent)?;
        let _unfinished = Unfinished::new(temporary.path());
        Ok(AtomicFolder { temporary, _unfinished, destination: destination.to_owned() })
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Makes every file durable and gives the folder its name.
    ///
    /// # Errors
    /// The system refuses; the folder is then gone.
    pub fn publish(self) -> io::Result<()> {
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
        sync_folder(parent(&self.destination))?;
        // It has another name now: there is nothing left to remove.
        let _ = self.temporary.keep();
        Ok(())
    }
}

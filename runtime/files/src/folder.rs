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
/// If it is dropped before [`AtomicFolder::publish`], it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFolder {
    temporary: TempDir,
    _unfinished: Unfinished,
    destination: PathBuf,
}

impl AtomicFolder {
    /// Creates a temporary folder beside `destination`, and missing parent folders.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the destination exists, or the system refuses.
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

    /// The temporary folder to write into.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Makes every file durable and renames the folder to its destination.
    ///
    /// # Errors
    /// The system refuses; the temporary folder is removed.
    pub fn publish(self) -> io::Result<()> {
        sync_contents(self.path())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary folders are private.
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::rename(self.path(), &self.destination)?;
        // As for a file: the name is there, and a sync that is refused takes nothing away.
        let _ = sync_folder(parent(&self.destination));
        // It was renamed: there is nothing left to remove.
        let _ = self.temporary.keep();
        Ok(())
    }
}

/// Makes the files in a folder durable, and those in its folders.
fn sync_contents(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_contents(&entry.path())?;
            // As for the folder itself.
            let _ = sync_folder(&entry.path());
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}

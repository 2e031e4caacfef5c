//! Files that appear whole or not at all.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name until [`AtomicFile::commit`]; removed without it. The name is fixed, so a rerun replaces
/// what a killed process left.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    // Closed before it is removed.
    file: File,
    partial: Partial,
    path: PathBuf,
}

#[derive(Debug)]
struct Partial {
    path: PathBuf,
    kept: bool,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<AtomicFile> {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = Partial { path: name.into(), kept: false };
        let file = File::create(&partial.path).map_err(|error| write_error(&partial.path, error))?;
        Ok(AtomicFile { file, partial, path: path.to_owned() })
    }

    /// Syncs the file, then renames it to its final name.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| write_error(&self.path, error))?;
        std::fs::rename(&self.partial.path, &self.path).map_err(Error::file(&self.path, "rename to"))?;
        self.partial.kept = true;
        // Not every system can sync a folder; the file is whole either way.
        let _ = self.path.parent().map_or(Ok(()), sync_folder);
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file atomically.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(|error| write_error(path, error))?;
    file.commit()
}

/// [`write_atomically`], as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    write_atomically(path, format!("{text}\n").as_bytes())
}

/// Makes renames in a folder durable, on systems that can open folders as files.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The error of a failed write; a full disk gets advice.
pub(crate) fn write_error(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::Invalid(format!(
                "{}: no space left on the disk ({source}); complete files are kept: free some space, then run the same \
                 command again",
                path.display()
            ))
        }
        _ => Error::file(path, "write")(source),
    }
}

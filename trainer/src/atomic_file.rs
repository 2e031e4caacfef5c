//! Files that appear whole or not at all, with errors that say what to do.

use crate::error::{Error, Result};
use std::io::{self, Write};
use std::path::Path;
use thimble_files::AtomicFile;

/// Creates `path` under the fixed name `NAME.partial` until it is published.
pub(crate) fn create(path: &Path) -> Result<AtomicFile> {
    AtomicFile::create_partial(path).map_err(|error| write_error(path, error))
}

/// Syncs the file and gives it its name.
pub(crate) fn publish(file: AtomicFile, path: &Path) -> Result<()> {
    file.publish().map_err(|error| write_error(path, error))
}

/// Writes a small file atomically.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).map_err(|error| write_error(path, error))?;
    publish(file, path)
}

/// [`write_atomically`], as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    write_atomically(path, format!("{text}\n").as_bytes())
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

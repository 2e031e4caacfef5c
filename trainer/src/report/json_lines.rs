//! Files of a run that grow by a line of JSON for a step: metrics, skipped steps, changes of the recipe.

use crate::atomic_file::{self, write_atomically};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The only field needed to keep or drop a line.
#[derive(Deserialize)]
struct Position {
    step: u64,
}

/// The file being written. Each line is written at once, so a killed run loses none.
#[derive(Debug)]
pub(crate) struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Creates or empties the file for a new run.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be written to.
    pub(crate) fn create(path: &Path) -> Result<JsonLines> {
        write_atomically(path, b"")?;
        JsonLines::append_to(path)
    }

    /// Reopens the file of a run that resumes after `step`: drops later lines and an incomplete last line. Creates a
    /// missing file.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the line's number when a line before the last is damaged; [`Error::File`].
    pub(crate) fn resume(path: &Path, step: u64) -> Result<JsonLines> {
        let source = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return JsonLines::create(path),
            Err(error) => return Err(Error::file(path, "read")(error)),
        };
        let mut writer = BufWriter::new(atomic_file::create(path)?);
        for_each_line::<Position>(path, BufReader::new(source), |line, position| {
            if position.step > step {
                return Ok(());
            }
            writer.write_all(line).and_then(|()| writer.write_all(b"\n")).map_err(Error::file(path, "write"))
        })?;
        let written = writer.into_inner().map_err(|error| error.into_error());
        atomic_file::publish(written.map_err(Error::file(path, "write"))?, path)?;
        JsonLines::append_to(path)
    }

    fn append_to(path: &Path) -> Result<JsonLines> {
        let file = OpenOptions::new().append(true).open(path).map_err(Error::file(path, "write"))?;
        Ok(JsonLines { path: path.to_path_buf(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`Error::File`], as on a full disk.
    pub(crate) fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(line)
            .map_err(|error| Error::Invalid(format!("{}: {error}", self.path.display())))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::file(&self.path, "write"))
    }

    /// Syncs all lines to disk.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::file(&self.path, "write"))
    }
}

/// All lines of a file, without an incomplete last one; none where there is no file.
///
/// # Errors
/// [`Error::Invalid`] with the line's number when a line before the last is damaged; [`Error::File`].
pub(crate) fn read_all<T: DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file(path, "read")(error)),
    };
    let mut lines = Vec::new();
    for_each_line(path, BufReader::new(file), |_, line| {
        lines.push(line);
        Ok(())
    })?;
    Ok(Some(lines))
}

/// Calls `take` with every line's bytes (without the line end) and parsed value. Skips an incomplete last line.
fn for_each_line<T: DeserializeOwned>(
    path: &Path,
    mut lines: impl BufRead,
    mut take: impl FnMut(&[u8], T) -> Result<()>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(Error::file(path, "read"))? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(parsed) => take(text, parsed)?,
            Err(_) if lines.fill_buf().map_err(Error::file(path, "read"))?.is_empty() => break,
            Err(error) => {
                let name = path.file_stem().unwrap_or_default().display();
                return Err(Error::Invalid(format!(
                    "{}:{number}: not a line of {name} ({error}); remove that line to continue without it",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

//! Parts: files of documents that appear whole, each with a marker of what it holds and where the next one begins.

use super::stage::StageCount;
use crate::error::{CurateError, Result};
use crate::source::SourcePosition;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use thimble_files::AtomicFile;

/// Compression level of parts.
const LEVEL: i32 = 3;

/// What stands beside a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartMarker {
    /// The position behind its last record in the sources.
    pub(super) next: SourcePosition,
    /// Whether the source ends there.
    pub(super) last: bool,
    /// Documents in it.
    pub(super) documents: u64,
    /// Bytes of their text.
    pub(super) bytes: u64,
    /// Records that could not be read.
    pub(super) bad: u64,
    /// The first one's place and fault.
    pub(super) first_bad: Option<String>,
    /// For each stage.
    pub(super) stages: Vec<StageCount>,
    /// Some of the documents that were removed.
    pub(super) samples: Vec<RemovedSample>,
}

/// A removed document, for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RemovedSample {
    pub(super) stage: String,
    pub(super) reason: String,
    /// Its beginning.
    pub(super) text: String,
}

/// The place of a part: its source and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartName {
    pub(super) source: usize,
    pub(super) number: usize,
}

impl PartName {
    pub(super) fn file(self, folder: &Path) -> PathBuf {
        folder.join(format!("part-{:06}-{:05}.jsonl.zst", self.source, self.number))
    }

    /// The marker, if the part is whole.
    pub(super) fn marker(self, folder: &Path) -> Result<Option<PartMarker>> {
        let path = self.marker_path(folder);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                CurateError::Invalid(format!(
                    "{}: expected a marker of a part: {error}; delete it",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CurateError::file(&path, "read")(error)),
        }
    }

    pub(super) fn write_marker(self, folder: &Path, marker: &PartMarker) -> Result<()> {
        write_json(&self.marker_path(folder), marker)
    }

    fn marker_path(self, folder: &Path) -> PathBuf {
        // Hidden, so that a folder of parts is an input as it is.
        folder.join(format!(".part-{:06}-{:05}.json", self.source, self.number))
    }
}

/// Writes lines of JSON as one Zstandard frame, under another name until it is whole.
pub(super) struct LinesWriter {
    path: PathBuf,
    out: zstd::stream::write::Encoder<'static, BufWriter<AtomicFile>>,
}

impl LinesWriter {
    pub(super) fn create(path: &Path) -> Result<LinesWriter> {
        let failed = |error| failed(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(CurateError::file(folder, "make the folder"))?;
        }
        let file = BufWriter::new(AtomicFile::create_partial(path).map_err(failed)?);
        let out = zstd::stream::write::Encoder::new(file, LEVEL).map_err(failed)?;
        Ok(LinesWriter { path: path.to_owned(), out })
    }

    pub(super) fn push(&mut self, line: &str) -> Result<()> {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|error| failed(&self.path, error))
    }

    pub(super) fn finish(self) -> Result<()> {
        let failed = |error| failed(&self.path, error);
        let file = self.out.finish().map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.publish().map_err(failed)
    }
}

/// Writes a small file that appears whole.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| CurateError::Invalid(error.to_string()))?;
    write_text(path, &format!("{text}\n"))
}

/// As [`write_json`], for text.
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    let failed = |error| failed(path, error);
    // Tasks that start together write the same file.
    let mut file = AtomicFile::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.publish().map_err(failed)
}

fn failed(path: &Path, error: std::io::Error) -> CurateError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => CurateError::Invalid(format!(
            "{}: no space left on the disk ({error}); whole parts are kept: free some space, then run the same command \
             again",
            path.display()
        )),
        _ => CurateError::file(path, "write")(error),
    }
}

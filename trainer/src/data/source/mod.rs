//! Text sources: txt, jsonl, parquet; plain, gzip or zstd; files, folders, and data sets of the Hugging Face hub.
//!
//! One thread reads the sources as a stream of raw records (a file, a line, a row); the threads that work on a record
//! decode its text ([`ReadOptions::text`]).

mod folder;
mod gzip;
mod hub;
mod parquet_column;
mod read;
mod record;

pub use read::RecordReader;
pub use record::{MOST_RECORD_BYTES, Record, RecordBatch, SourcePosition};

use crate::data::token_set::{SourceFile, hash_hex};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Prefix of an address on the hub.
const HUB: &str = "hf://";
/// Bytes hashed at a source's beginning, and at its end.
const ENDS: u64 = 64 << 10;

/// How a file is split into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The whole file is one document.
    Text,
    /// Every line is a document.
    Lines,
    /// Every line is a JSON object with a document in one of its fields.
    JsonLines,
    /// Every row has a document in one of its columns.
    Parquet,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    Plain,
    /// gzip, any number of members, with zeros between and after them.
    Gzip,
    /// Zstandard, any number of frames, with windows of up to 2 GiB, which a frame takes as memory.
    Zstd,
}

/// A file of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSource {
    /// Its path.
    pub path: PathBuf,
    /// Its name in messages and in the manifest.
    pub name: String,
    /// How it is split into documents.
    pub kind: SourceKind,
    /// How it is compressed.
    pub compression: Compression,
}

/// How documents are extracted from records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The JSON field or parquet column that holds the text.
    pub field: String,
    /// Make every line of a `.txt` file a document.
    pub lines: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { field: "text".to_owned(), lines: false }
    }
}

impl TextSource {
    /// The files that `names` stand for, in order: files as they are; folders with all their text files, sorted by
    /// path, each real file once however many links lead to it; `hf://datasets/OWNER/NAME[@REVISION][/PATH]` with the
    /// files of that data set, downloaded into the hub's cache.
    ///
    /// # Errors
    /// A path that does not exist, a pipe or a device, an unknown extension, or a folder without text files.
    pub fn resolve(names: &[String], options: &ReadOptions) -> Result<Vec<TextSource>> {
        let mut sources = Vec::new();
        for name in names {
            let before = sources.len();
            let path = Path::new(name);
            if let Some(address) = name.strip_prefix(HUB) {
                hub::fetch(address, options, &mut sources)?;
            } else if path.is_dir() {
                sources.extend(folder::FolderScan::files(path, options)?);
            } else {
                sources.push(folder::file(name, options)?);
            }
            if sources.len() == before {
                return Err(Error::Usage(format!(
                    "{name}: expected files that end in {ENDINGS}, found none"
                )));
            }
        }
        Ok(sources)
    }

    fn recognize(path: PathBuf, name: String, options: &ReadOptions) -> Option<TextSource> {
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = match lower.strip_suffix(".gz") {
            Some(stem) => (stem, Compression::Gzip),
            None => match lower.strip_suffix(".zst") {
                Some(stem) => (stem, Compression::Zstd),
                None => (lower.as_str(), Compression::Plain),
            },
        };
        let kind = match stem.rsplit_once('.')?.1 {
            "txt" if options.lines => SourceKind::Lines,
            "txt" => SourceKind::Text,
            "jsonl" | "ndjson" => SourceKind::JsonLines,
            // Data sets on the hub use it; a plain .json is nearly always something else.
            "json" if compression != Compression::Plain => SourceKind::JsonLines,
            "parquet" if compression == Compression::Plain => SourceKind::Parquet,
            _ => return None,
        };
        Some(TextSource { path, name, kind, compression })
    }

    /// Size and hash, for the manifest and to notice changes.
    pub fn file(&self) -> Result<SourceFile> {
        let failed = |error| Error::file(&self.path, "read")(error);
        let mut file = File::open(&self.path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut ends = Vec::new();
        file.by_ref().take(ENDS).read_to_end(&mut ends).map_err(failed)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(ENDS).max(ends.len() as u64))).map_err(failed)?;
        file.take(ENDS).read_to_end(&mut ends).map_err(failed)?;
        Ok(SourceFile { path: self.name.clone(), bytes, xxh3_ends: hash_hex(&ends) })
    }
}

impl ReadOptions {
    /// The document in a record; `None` where it is empty, or null.
    ///
    /// # Errors
    /// What is wrong with the record, without its place, which [`Record::place`] gives.
    pub fn text<'r>(
        &self,
        kind: SourceKind,
        raw: &'r [u8],
    ) -> std::result::Result<Option<Cow<'r, str>>, String> {
        if matches!(raw, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
            return Err("expected UTF-8 text, found UTF-16; convert it (iconv -f UTF-16 -t UTF-8)".to_owned());
        }
        let text = match kind {
            SourceKind::JsonLines => match read::json_field(raw, &self.field)? {
                Some(text) => Cow::Owned(text),
                None => return Ok(None),
            },
            SourceKind::Text | SourceKind::Lines | SourceKind::Parquet => {
                let text = std::str::from_utf8(raw);
                Cow::Borrowed(text.map_err(|error| {
                    format!("expected UTF-8 text, found another byte at {}", error.valid_up_to())
                })?)
            }
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

const ENDINGS: &str = ".txt, .jsonl or .ndjson (plain, .gz or .zst), .json.gz, .json.zst, or .parquet";

//! Text sources: txt, jsonl, parquet, plain, gzip or zstd; files, folders, and data sets of the Hugging Face hub.
//!
//! A source is read as a stream of raw records (a file, a line, a row), which is cheap and happens on one thread;
//! what is in a record ([`ReadOptions::text`]) is looked at by whoever works on it.

mod folder;
mod gzip;
mod hub;
mod parquet_column;
mod read;

pub use read::{MOST_RECORD_BYTES, Record, RecordBatch, Records, SourcePosition};

use crate::data::token_set::{SourceFile, hash_hex};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What begins an address on the hub.
const HUB: &str = "hf://";
/// What is hashed of a source's beginning, and of its end.
const ENDS: u64 = 64 << 10;

/// How a file is cut into documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole file is one document.
    Text,
    /// Every line is a document.
    Lines,
    /// Every line is a JSON object with a document in one of its fields.
    JsonLines,
    /// Every row has a document in one of its columns.
    Parquet,
}

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, any number of members, zeros between and behind them.
    Gzip,
    /// Zstandard, any number of frames, with windows of up to 2 GiB: so much memory such a frame takes.
    Zstd,
}

/// A file with text in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSource {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called in messages and in the manifest.
    pub name: String,
    /// How it is cut.
    pub kind: Kind,
    /// How it is packed.
    pub packing: Packing,
}

/// How documents are taken out of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The JSON field or parquet column that holds the text.
    pub field: String,
    /// Cut `.txt` files into lines.
    pub lines: bool,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { field: "text".to_owned(), lines: false }
    }
}

/// Decides which documents stay: where deduplication and decontamination will come in.
///
/// It is asked from many threads and in no order, so its answer must depend on the document alone.
pub trait Filter: Sync {
    /// Whether the document stays.
    fn keeps(&self, record: &Record, text: &str) -> bool;
}

/// Keeps everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl Filter for KeepAll {
    fn keeps(&self, _: &Record, _: &str) -> bool {
        true
    }
}

impl TextSource {
    /// The files that `names` stand for, in order: files as they are; folders with all their text files, sorted by
    /// path, each real file once however many links lead to it; `hf://datasets/OWNER/NAME[@REVISION][/PATH]` with the files of that data set, downloaded into the hub's
    /// cache.
    ///
    /// # Errors
    /// What does not exist, is a pipe or a device, has no known ending, or has no text in it.
    pub fn resolve(names: &[String], options: &ReadOptions) -> Result<Vec<TextSource>> {
        let mut sources = Vec::new();
        for name in names {
            let before = sources.len();
            let path = Path::new(name);
            if let Some(address) = name.strip_prefix(HUB) {
                hub::fetch(address, options, &mut sources)?;
            } else if path.is_dir() {
                sources.extend(folder::Walk::files(path, options)?);
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
        let (stem, packing) = match lower.strip_suffix(".gz") {
            Some(stem) => (stem, Packing::Gzip),
            None => match lower.strip_suffix(".zst") {
                Some(stem) => (stem, Packing::Zstd),
                None => (lower.as_str(), Packing::Plain),
            },
        };
        let kind = match stem.rsplit_once('.')?.1 {
            "txt" if options.lines => Kind::Lines,
            "txt" => Kind::Text,
            "jsonl" | "ndjson" => Kind::JsonLines,
            // Data sets of the hub come so; a plain .json is nearly always something else.
            "json" if packing != Packing::Plain => Kind::JsonLines,
            "parquet" if packing == Packing::Plain => Kind::Parquet,
            _ => return None,
        };
        Some(TextSource { path, name, kind, packing })
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
    /// What is wrong with the record, without its place: [`Record::place`] says that.
    pub fn text<'r>(&self, kind: Kind, raw: &'r [u8]) -> std::result::Result<Option<Cow<'r, str>>, String> {
        if matches!(raw, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
            return Err("expected UTF-8 text, found UTF-16; convert it (iconv -f UTF-16 -t UTF-8)".to_owned());
        }
        let text = match kind {
            Kind::JsonLines => match read::json_field(raw, &self.field)? {
                Some(text) => Cow::Owned(text),
                None => return Ok(None),
            },
            Kind::Text | Kind::Lines | Kind::Parquet => {
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

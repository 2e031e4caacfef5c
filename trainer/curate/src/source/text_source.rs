//! A text source: its kind, its compression, and the text in its records.

use super::source_file::{SourceFile, hash_hex};
use crate::error::{CurateError, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Bytes hashed at a source's beginning, and at its end.
const ENDS: u64 = 64 << 10;

/// Some programs begin a file with it.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

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
    /// Whether rows of many fields are read, not text: `.txt` has none, and a plain `.json` can be an array of them.
    pub rows: bool,
    /// Whether a record of a parquet file is its whole row, as a JSON object, not the column alone.
    pub whole_rows: bool,
}

impl ReadOptions {
    /// The extensions that are read, for messages.
    pub(super) fn endings(&self) -> &'static str {
        match self.rows {
            true => ".jsonl, .ndjson or .json (plain, .gz or .zst), or .parquet",
            false => ".txt, .jsonl or .ndjson (plain, .gz or .zst), .json.gz, .json.zst, or .parquet",
        }
    }
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions { field: "text".to_owned(), lines: false, rows: false, whole_rows: false }
    }
}

impl TextSource {
    pub(super) fn recognize(path: PathBuf, name: String, options: &ReadOptions) -> Option<TextSource> {
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = match lower.strip_suffix(".gz") {
            Some(stem) => (stem, Compression::Gzip),
            None => match lower.strip_suffix(".zst") {
                Some(stem) => (stem, Compression::Zstd),
                None => (lower.as_str(), Compression::Plain),
            },
        };
        let kind = match stem.rsplit_once('.')?.1 {
            "txt" if options.rows => return None,
            "txt" if options.lines => SourceKind::Lines,
            "txt" => SourceKind::Text,
            "jsonl" | "ndjson" => SourceKind::JsonLines,
            // Data sets on the hub use it; a plain .json is nearly always something else.
            "json" if options.rows || compression != Compression::Plain => SourceKind::JsonLines,
            "parquet" if compression == Compression::Plain => SourceKind::Parquet,
            _ => return None,
        };
        Some(TextSource { path, name, kind, compression })
    }

    /// Size and hash, for the manifest and to notice changes.
    pub fn file(&self) -> Result<SourceFile> {
        let failed = |error| CurateError::file(&self.path, "read")(error);
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
    /// Whether records of this kind are JSON objects.
    pub fn is_json(&self, kind: SourceKind) -> bool {
        kind == SourceKind::JsonLines || (self.whole_rows && kind == SourceKind::Parquet)
    }

    /// The document in a record; `None` where it is empty, or null.
    ///
    /// # Errors
    /// What is wrong with the record, without its place, which [`super::Record::place`] gives.
    pub fn text<'r>(
        &self,
        kind: SourceKind,
        raw: &'r [u8],
    ) -> std::result::Result<Option<Cow<'r, str>>, String> {
        if matches!(raw, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
            return Err("expected UTF-8 text, found UTF-16; convert it (iconv -f UTF-16 -t UTF-8)".to_owned());
        }
        let text = match kind {
            _ if self.is_json(kind) => match json_field(raw, &self.field)? {
                Some(text) => Cow::Owned(text),
                None => return Ok(None),
            },
            _ => {
                let text = std::str::from_utf8(raw);
                Cow::Borrowed(text.map_err(|error| {
                    format!("expected UTF-8 text, found another byte at {}", error.valid_up_to())
                })?)
            }
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// The string in `field` of a JSON object; none for a null there, as in a parquet column.
fn json_field(raw: &[u8], field: &str) -> std::result::Result<Option<String>, String> {
    // Files with such a mark are put together by cat.
    let raw = raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw);
    let mut json = serde_json::Deserializer::from_slice(raw);
    let found = json.deserialize_map(Field(field)).and_then(|found| json.end().map(|()| found));
    match found {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("expected a field {field:?}, found none; choose another with --field")),
        // serde_json counts lines within the record, which is always the first.
        Err(error) => Err(format!("expected a JSON object with a string in {field:?}: {error}")),
    }
}

struct Field<'f>(&'f str);

impl<'de> Visitor<'de> for Field<'_> {
    /// The field, if there is one; its string, if it has one.
    type Value = Option<Option<String>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

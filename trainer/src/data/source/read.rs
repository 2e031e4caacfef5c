//! Sources as one stream of raw records, from any position on.

use super::gzip::Gzip;
use super::parquet_column::Column;
use super::{Kind, Packing, ReadOptions, TextSource};
use crate::error::{Error, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::ops::Range;

/// Most bytes of one record: what bounds memory.
pub const MOST_RECORD_BYTES: usize = 256 << 20;
/// Bytes read from a file at once.
const BUFFER: usize = 1 << 20;

/// What some programs begin a file with.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();
/// The largest window of a zstd frame, `zstd --long=31`, as a power of two: as much memory the frame takes at most.
const WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };

/// Where the next record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Number of the source.
    pub source: usize,
    /// Lines or rows before it in that source, blank lines among them.
    pub record: u64,
    /// Records before it in all sources, without blank lines.
    pub index: u64,
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub at: SourcePosition,
    range: Range<usize>,
}

/// Records in a row.
#[derive(Debug, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    /// In the order of the sources.
    pub records: Vec<Record>,
}

impl RecordBatch {
    /// The bytes of a record.
    pub fn raw(&self, record: &Record) -> &[u8] {
        &self.bytes[record.range.clone()]
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Record {
    /// Its place, as a person counts.
    pub fn place(&self, sources: &[TextSource]) -> String {
        sources.get(self.at.source).map(|source| place(source, self.at.record)).unwrap_or_default()
    }
}

/// A record of a source, as a person counts.
pub(super) fn place(source: &TextSource, record: u64) -> String {
    match source.kind {
        Kind::Text => source.name.clone(),
        Kind::Lines | Kind::JsonLines => format!("{}, line {}", source.name, record + 1),
        Kind::Parquet => format!("{}, row {}", source.name, record + 1),
    }
}

/// The stream of records.
pub struct Records<'s> {
    sources: &'s [TextSource],
    options: &'s ReadOptions,
    next: SourcePosition,
    open: Option<Open>,
}

enum Open {
    Text(Box<dyn BufRead + Send>),
    Lines(Box<dyn BufRead + Send>),
    Column(Box<Column>),
}

impl<'s> Records<'s> {
    /// A stream that begins at `from`.
    pub fn new(sources: &'s [TextSource], options: &'s ReadOptions, from: SourcePosition) -> Records<'s> {
        Records { sources, options, next: from, open: None }
    }

    /// Where the next record is.
    pub fn position(&self) -> SourcePosition {
        self.next
    }

    /// The next records of about `bytes` in all (one record may be more); `None` behind the last one.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or has a record of more than [`MOST_RECORD_BYTES`].
    pub fn batch(&mut self, bytes: usize) -> Result<Option<RecordBatch>> {
        let mut batch = RecordBatch::default();
        while batch.bytes.len() < bytes {
            let Some(source) = self.sources.get(self.next.source) else { break };
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(Open::at(source, self.options, self.next.record)?),
            };
            let start = batch.bytes.len();
            if !open.read(source, self.next, &mut batch)? {
                self.open = None;
                self.next =
                    SourcePosition { source: self.next.source + 1, record: 0, index: self.next.index };
                continue;
            }
            let blank = source.kind != Kind::Parquet && batch.bytes[start..].trim_ascii().is_empty();
            if blank {
                batch.bytes.truncate(start);
            } else {
                batch.records.push(Record { at: self.next, range: start..batch.bytes.len() });
            }
            self.next.record += 1;
            self.next.index += u64::from(!blank);
        }
        Ok(Some(batch).filter(|batch| !batch.records.is_empty()))
    }
}

impl Open {
    /// Opens `source` and passes over `skip` records.
    fn at(source: &TextSource, options: &ReadOptions, skip: u64) -> Result<Open> {
        if source.kind == Kind::Parquet {
            return Ok(Open::Column(Box::new(Column::open(source, &options.field, skip)?)));
        }
        let mut reader = unpack(source)?;
        if source.kind == Kind::Text {
            return Ok(Open::Text(if skip == 0 { reader } else { Box::new(std::io::empty()) }));
        }
        for record in 0..skip {
            reader.skip_until(b'\n').map_err(|error| unreadable(source, record, &error))?;
        }
        Ok(Open::Lines(reader))
    }

    /// Appends the next record's bytes to `batch`; false behind the last one.
    fn read(&mut self, source: &TextSource, at: SourcePosition, batch: &mut RecordBatch) -> Result<bool> {
        let failed = |error| unreadable(source, at.record, &error);
        let most = MOST_RECORD_BYTES as u64 + 1;
        let start = batch.bytes.len();
        let found = match self {
            Open::Column(column) => return column.next(source, at.record, &mut batch.bytes),
            Open::Text(reader) => {
                let found = reader.take(most).read_to_end(&mut batch.bytes).map_err(failed)?;
                *self = Open::Text(Box::new(std::io::empty()));
                found
            }
            Open::Lines(reader) => {
                let found = reader.take(most).read_until(b'\n', &mut batch.bytes).map_err(failed)?;
                let line = &batch.bytes[start..];
                let line =
                    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
                let end = start + line.len();
                batch.bytes.truncate(end);
                found
            }
        };
        if batch.bytes.len() - start > MOST_RECORD_BYTES {
            return Err(Error::Invalid(format!(
                "{}: expected a document of at most {MOST_RECORD_BYTES} bytes, found a longer one; split it{}",
                place(source, at.record),
                if source.kind == Kind::Text { ", or make every line a document with --lines" } else { "" }
            )));
        }
        if at.record == 0 && batch.bytes[start..].starts_with(BYTE_ORDER_MARK) {
            batch.bytes.drain(start..start + BYTE_ORDER_MARK.len());
        }
        Ok(found > 0)
    }
}

fn unpack(source: &TextSource) -> Result<Box<dyn BufRead + Send>> {
    let failed = |error| Error::file(&source.path, "open")(error);
    let file = File::open(&source.path).map_err(failed)?;
    let unpacked: Box<dyn Read + Send> = match source.packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(Gzip::new(BufReader::with_capacity(BUFFER, file))),
        Packing::Zstd => {
            // zstd makes no such file.
            if file.metadata().map_err(failed)?.len() == 0 {
                return Err(unreadable(source, 0, &ErrorKind::UnexpectedEof.into()));
            }
            let mut decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, unpacked)))
}

/// A file that cannot be read on from a record.
fn unreadable(source: &TextSource, record: u64, error: &std::io::Error) -> Error {
    let (place, packed) = (place(source, record), source.packing != Packing::Plain);
    let what = match error.kind() {
        ErrorKind::UnexpectedEof if packed => "the packed file ends too early".to_owned(),
        _ => error.to_string(),
    };
    let remedy = if packed { "; it is cut off or damaged: fetch or pack it again" } else { "" };
    Error::Invalid(format!("{place}: cannot read: {what}{remedy}"))
}

/// The string in `field` of a JSON object; none for a null there, as in a parquet column.
pub(super) fn json_field(raw: &[u8], field: &str) -> std::result::Result<Option<String>, String> {
    // Files with such a mark are put together by cat.
    let raw = raw.strip_prefix(BYTE_ORDER_MARK).unwrap_or(raw);
    let mut json = serde_json::Deserializer::from_slice(raw);
    let found = json.deserialize_map(Field(field)).and_then(|found| json.end().map(|()| found));
    match found {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("expected a field {field:?}, found none; --field names another")),
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

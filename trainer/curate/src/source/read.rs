//! Reads sources as one stream of raw records, from any position.

use super::gzip::Gzip;
use super::parquet_column::TextColumn;
use super::parquet_rows::ParquetRows;
use super::record::{MOST_RECORD_BYTES, Record, RecordBatch, SourcePosition, place};
use super::text_source::{BYTE_ORDER_MARK, Compression, ReadOptions, SourceKind, TextSource};
use crate::error::{CurateError, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};

/// Bytes read from a file at once.
const BUFFER: usize = 1 << 20;

/// The largest window of a zstd frame, `zstd --long=31`, as a power of two: as much memory the frame takes at most.
const WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };

/// A stream of records.
pub struct RecordReader<'s> {
    sources: &'s [TextSource],
    options: &'s ReadOptions,
    next: SourcePosition,
    open: Option<OpenSource>,
}

enum OpenSource {
    Text(Box<dyn BufRead + Send>),
    Lines(Box<dyn BufRead + Send>),
    Column(Box<TextColumn>),
    Rows(Box<ParquetRows>),
}

impl<'s> RecordReader<'s> {
    /// A stream that begins at `from`.
    pub fn new(
        sources: &'s [TextSource],
        options: &'s ReadOptions,
        from: SourcePosition,
    ) -> RecordReader<'s> {
        RecordReader { sources, options, next: from, open: None }
    }

    /// The position of the next record.
    pub fn position(&self) -> SourcePosition {
        self.next
    }

    /// The next records of about `bytes` in all (one record may be more); `None` after the last one.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or has a record of more than [`MOST_RECORD_BYTES`].
    pub fn batch(&mut self, bytes: usize) -> Result<Option<RecordBatch>> {
        let mut batch = RecordBatch::default();
        while batch.bytes.len() < bytes {
            let Some(source) = self.sources.get(self.next.source) else { break };
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(OpenSource::at(source, self.options, self.next.record)?),
            };
            let start = batch.bytes.len();
            if !open.read(source, self.next, &mut batch)? {
                self.open = None;
                self.next =
                    SourcePosition { source: self.next.source + 1, record: 0, index: self.next.index };
                continue;
            }
            let blank = source.kind != SourceKind::Parquet && batch.bytes[start..].trim_ascii().is_empty();
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

impl OpenSource {
    /// Opens `source` and skips `skip` records.
    fn at(source: &TextSource, options: &ReadOptions, skip: u64) -> Result<OpenSource> {
        if source.kind == SourceKind::Parquet && options.whole_rows {
            return Ok(OpenSource::Rows(Box::new(ParquetRows::open(source, skip)?)));
        }
        if source.kind == SourceKind::Parquet {
            return Ok(OpenSource::Column(Box::new(TextColumn::open(source, &options.field, skip)?)));
        }
        let mut reader = decompress(source)?;
        if source.kind == SourceKind::Text {
            return Ok(OpenSource::Text(if skip == 0 { reader } else { Box::new(std::io::empty()) }));
        }
        for record in 0..skip {
            reader.skip_until(b'\n').map_err(|error| unreadable(source, record, &error))?;
        }
        Ok(OpenSource::Lines(reader))
    }

    /// Appends the next record's bytes to `batch`; false after the last one.
    fn read(&mut self, source: &TextSource, at: SourcePosition, batch: &mut RecordBatch) -> Result<bool> {
        let failed = |error| unreadable(source, at.record, &error);
        let most = MOST_RECORD_BYTES as u64 + 1;
        let start = batch.bytes.len();
        let found = match self {
            OpenSource::Rows(rows) => return rows.append(source, at.record, &mut batch.bytes),
            OpenSource::Column(column) => return column.next(source, at.record, &mut batch.bytes),
            OpenSource::Text(reader) => {
                let found = reader.take(most).read_to_end(&mut batch.bytes).map_err(failed)?;
                *self = OpenSource::Text(Box::new(std::io::empty()));
                found
            }
            OpenSource::Lines(reader) => {
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
            return Err(CurateError::Invalid(format!(
                "{}: expected a document of at most {MOST_RECORD_BYTES} bytes, found a longer one; split it{}",
                place(source, at.record),
                if source.kind == SourceKind::Text {
                    ", or make every line a document with --lines"
                } else {
                    ""
                }
            )));
        }
        if at.record == 0 && batch.bytes[start..].starts_with(BYTE_ORDER_MARK) {
            batch.bytes.drain(start..start + BYTE_ORDER_MARK.len());
        }
        Ok(found > 0)
    }
}

/// A source's decompressed bytes.
///
/// # Errors
/// It cannot be opened.
pub fn decompress(source: &TextSource) -> Result<Box<dyn BufRead + Send>> {
    let failed = |error| CurateError::file(&source.path, "open")(error);
    let file = File::open(&source.path).map_err(failed)?;
    let decompressed: Box<dyn Read + Send> = match source.compression {
        Compression::Plain => Box::new(file),
        Compression::Gzip => Box::new(Gzip::new(BufReader::with_capacity(BUFFER, file))),
        Compression::Zstd => {
            // zstd makes no such file.
            if file.metadata().map_err(failed)?.len() == 0 {
                return Err(unreadable(source, 0, &ErrorKind::UnexpectedEof.into()));
            }
            let mut decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, decompressed)))
}

/// The error of a file that cannot be read past a record.
fn unreadable(source: &TextSource, record: u64, error: &std::io::Error) -> CurateError {
    let (place, compressed) = (place(source, record), source.compression != Compression::Plain);
    let what = match error.kind() {
        ErrorKind::UnexpectedEof if compressed => "the compressed file ends too early".to_owned(),
        _ => error.to_string(),
    };
    let remedy = if compressed { "; it is truncated or damaged: download or compress it again" } else { "" };
    CurateError::Invalid(format!("{place}: cannot read: {what}{remedy}"))
}

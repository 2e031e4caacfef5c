//! Rows of JSON Lines, JSON arrays and Parquet files as JSON values, one at a time.

use crate::data::source::{MOST_RECORD_BYTES, ParquetRows, ReadOptions, SourceKind, TextSource, decompress};
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::{BufRead, Read};

/// Most bytes of a file that is one JSON array, which is read at once.
const MOST_ARRAY_BYTES: u64 = 2 << 30;

/// Calls `visit` with every row of the files in `names` and its place for messages: `FILE, line 3`.
///
/// A file is JSON Lines or one JSON array (`.jsonl`, `.ndjson`, `.json`; plain, gzip or zstd; its first character says
/// which), or Parquet. A name can also be a folder or a data set of the hub, as for [`TextSource::resolve`].
///
/// # Errors
/// A file that cannot be read, a line that is no JSON, and those of `visit`.
pub fn for_each_row(names: &[String], visit: &mut dyn FnMut(&str, Value) -> Result<()>) -> Result<()> {
    let options = ReadOptions { rows: true, ..ReadOptions::default() };
    for source in TextSource::resolve(names, &options)? {
        match source.kind {
            SourceKind::Parquet => parquet_rows(&source, visit)?,
            // Rows are asked for, so there is no plain text.
            SourceKind::JsonLines | SourceKind::Text | SourceKind::Lines => json_rows(&source, visit)?,
        }
    }
    Ok(())
}

fn json_rows(source: &TextSource, visit: &mut dyn FnMut(&str, Value) -> Result<()>) -> Result<()> {
    let mut reader = decompress(source)?;
    let unreadable = |line: u64, error: std::io::Error| {
        Error::Invalid(format!(
            "{}, line {line}: cannot read: {error}; if it is compressed, it may be truncated: download it again",
            source.name
        ))
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut limited = reader.by_ref().take(MOST_RECORD_BYTES as u64 + 1);
        if limited.read_until(b'\n', &mut line).map_err(|error| unreadable(number, error))? == 0 {
            return Ok(());
        }
        let text = line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&line).trim_ascii_start();
        let is_array = number == 1 && text.first() == Some(&b'[');
        if line.len() > MOST_RECORD_BYTES && !is_array {
            return Err(Error::Invalid(format!(
                "{}, line {number}: expected a row of at most {MOST_RECORD_BYTES} bytes, found a longer one; split it",
                source.name
            )));
        }
        let text = text.trim_ascii_end();
        if text.is_empty() {
            continue;
        }
        if is_array {
            // Its first line can be a part of a longer one.
            let mut whole = line.clone();
            let begin = whole.iter().position(|&byte| byte == b'[').unwrap_or(0);
            whole.drain(..begin);
            reader.take(MOST_ARRAY_BYTES).read_to_end(&mut whole).map_err(|error| unreadable(1, error))?;
            return array_rows(source, &whole, visit);
        }
        let place = format!("{}, line {number}", source.name);
        let row = serde_json::from_slice(text).map_err(|error| {
            let line = String::from_utf8_lossy(text);
            let begins: String = line.chars().take(40).collect();
            Error::Invalid(format!(
                "{place}: expected a JSON object on one line, or a file that is one JSON array; found {begins:?}: {error}"
            ))
        })?;
        visit(&place, row)?;
    }
    Ok(())
}

fn array_rows(
    source: &TextSource,
    text: &[u8],
    visit: &mut dyn FnMut(&str, Value) -> Result<()>,
) -> Result<()> {
    if text.len() as u64 >= MOST_ARRAY_BYTES {
        return Err(Error::Invalid(format!(
            "{}: expected a JSON array of at most {MOST_ARRAY_BYTES} bytes; write one object a line instead (.jsonl)",
            source.name
        )));
    }
    let rows: Vec<Value> = serde_json::from_slice(text)
        .map_err(|error| Error::Invalid(format!("{}: expected a JSON array: {error}", source.name)))?;
    for (index, row) in rows.into_iter().enumerate() {
        visit(&format!("{}, row {}", source.name, index + 1), row)?;
    }
    Ok(())
}

fn parquet_rows(source: &TextSource, visit: &mut dyn FnMut(&str, Value) -> Result<()>) -> Result<()> {
    let mut rows = ParquetRows::open(source, 0)?;
    for number in 1.. {
        let Some(row) = rows.next(source, number - 1)? else { break };
        visit(&format!("{}, row {number}", source.name), row)?;
    }
    Ok(())
}

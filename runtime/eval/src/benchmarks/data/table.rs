//! The rows of one file, parsed on demand.

use super::row::{Row, kind};
use crate::benchmarks::error::{EvalError, Result};
use serde_json::{Map, Value};
use std::ops::Range;
use std::path::{Path, PathBuf};
use thimble_runtime::format::checksum;

/// A file of rows.
pub(crate) struct Table {
    file: PathBuf,
    checksum: u64,
    rows: Rows,
}

enum Rows {
    /// JSON Lines: the text, and for each row its line and its bytes.
    Lines(String, Vec<(usize, Range<usize>)>),
    /// Rows of a parquet file.
    Values(Vec<Map<String, Value>>),
}

impl Table {
    /// Reads a JSON Lines file; blank lines are skipped.
    pub(crate) fn json_lines(file: &Path) -> Result<Table> {
        let bytes = std::fs::read(file).map_err(EvalError::io("read", file))?;
        let checksum = checksum(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| EvalError::BenchmarkData {
            file: file.to_path_buf(),
            reason: format!(
                "expected UTF-8 text: byte {} cannot be part of it",
                error.utf8_error().valid_up_to()
            ),
        })?;
        let mut lines = Vec::new();
        let mut start = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            if !line.trim().is_empty() {
                lines.push((index + 1, start..start + line.len()));
            }
            start += line.len();
        }
        Table { file: file.to_path_buf(), checksum, rows: Rows::Lines(text, lines) }.filled()
    }

    /// Rows read from another kind of file, with the checksum of its content.
    pub(crate) fn values(file: PathBuf, checksum: u64, rows: Vec<Map<String, Value>>) -> Result<Table> {
        Table { file, checksum, rows: Rows::Values(rows) }.filled()
    }

    fn filled(self) -> Result<Table> {
        if self.len() == 0 {
            return Err(self.wrong("expected at least one row, found none".to_string()));
        }
        Ok(self)
    }

    /// The error for the whole file.
    pub(crate) fn wrong(&self, reason: String) -> EvalError {
        EvalError::BenchmarkData { file: self.file.clone(), reason }
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        match &self.rows {
            Rows::Lines(_, lines) => lines.len(),
            Rows::Values(rows) => rows.len(),
        }
    }

    /// Checksum of the file's content.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Row `index`, below [`Table::len`].
    pub(crate) fn row(&self, index: usize) -> Result<Row<'_>> {
        match &self.rows {
            Rows::Lines(text, lines) => {
                let (line, range) = lines[index].clone();
                let wrong = |reason| EvalError::Row { file: self.file.clone(), line, reason };
                match serde_json::from_str(&text[range]) {
                    Ok(Value::Object(object)) => Ok(Row { file: &self.file, line, object }),
                    Ok(other) => Err(wrong(format!("expected a JSON object, found {}", kind(Some(&other))))),
                    Err(error) => {
                        let column = error.column();
                        Err(wrong(format!(
                            "expected a JSON object, found invalid JSON at column {column} ({error})"
                        )))
                    }
                }
            }
            Rows::Values(rows) => Ok(Row { file: &self.file, line: index + 1, object: rows[index].clone() }),
        }
    }
}

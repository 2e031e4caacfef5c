//! One string column of a parquet file, read row by row.

use super::parquet_rows::contained;
use super::record::{MOST_RECORD_BYTES, place};
use super::text_source::TextSource;
use crate::error::{CurateError, Result};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;

/// Rows decoded at once.
const ROWS: usize = 256;

/// The remaining rows. Pages are read and decompressed one at a time.
pub(super) struct TextColumn {
    file: SerializedFileReader<File>,
    leaf: usize,
    optional: bool,
    next_group: usize,
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
    /// The decoded rows that have not been handed out, the next one last.
    rows: Vec<Option<ByteArray>>,
}

impl TextColumn {
    /// Opens `source` after its first `skip` rows.
    pub(super) fn open(source: &TextSource, field: &str, skip: u64) -> Result<TextColumn> {
        let wrong = |why: String| CurateError::Invalid(format!("{}: {why}", source.name));
        let damaged = |error: ParquetError| wrong(format!("expected a whole parquet file: {error}"));
        let file = File::open(&source.path).map_err(CurateError::file(&source.path, "open"))?;
        let file = contained(|| SerializedFileReader::new(file)).map_err(damaged)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let leaf = schema.columns().iter().position(|column| column.path().string() == field);
        let leaf = leaf.ok_or_else(|| {
            let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
            wrong(format!(
                "expected a column {field:?}, found {}; choose another with --field",
                names.join(", ")
            ))
        })?;
        let column = schema.column(leaf);
        if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() != 0 {
            let lists = if column.max_rep_level() == 0 { "" } else { "lists of " };
            return Err(wrong(format!(
                "expected strings in the column {field:?}, found {lists}{}; choose another with --field",
                column.physical_type()
            )));
        }
        let optional = column.max_def_level() > 0;
        let mut column = TextColumn { file, leaf, optional, next_group: 0, reader: None, rows: Vec::new() };
        contained(|| column.skip(skip)).map_err(damaged)?;
        Ok(column)
    }

    /// Appends the bytes of the next row, which is number `record`, and none for a null; false after the last row.
    pub(super) fn next(&mut self, source: &TextSource, record: u64, out: &mut Vec<u8>) -> Result<bool> {
        if self.rows.is_empty() {
            let filled = contained(|| self.fill());
            filled.map_err(|error| {
                CurateError::Invalid(format!("{}: the column cannot be read: {error}", place(source, record)))
            })?;
        }
        let Some(row) = self.rows.pop() else { return Ok(false) };
        let bytes = row.as_ref().map_or(&[][..], ByteArray::data);
        if bytes.len() > MOST_RECORD_BYTES {
            return Err(CurateError::Invalid(format!(
                "{}: expected a document of at most {MOST_RECORD_BYTES} bytes, found one of {}; split it",
                place(source, record),
                bytes.len()
            )));
        }
        out.extend_from_slice(bytes);
        Ok(true)
    }

    fn skip(&mut self, mut rows: u64) -> std::result::Result<(), ParquetError> {
        while rows > 0 && self.next_group < self.file.num_row_groups() {
            let group = self.file.metadata().row_group(self.next_group).num_rows().max(0) as u64;
            if group > rows {
                self.open_group()?;
                if let Some(reader) = &mut self.reader {
                    reader.skip_records(rows as usize)?;
                }
                break;
            }
            rows -= group;
            self.next_group += 1;
        }
        Ok(())
    }

    fn open_group(&mut self) -> std::result::Result<(), ParquetError> {
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        let ColumnReader::ByteArrayColumnReader(reader) = group.get_column_reader(self.leaf)? else {
            return Err(ParquetError::General("the row group has another type in this column".into()));
        };
        self.reader = Some(reader);
        Ok(())
    }

    fn fill(&mut self) -> std::result::Result<(), ParquetError> {
        loop {
            let Some(reader) = &mut self.reader else {
                if self.next_group == self.file.num_row_groups() {
                    return Ok(());
                }
                self.open_group()?;
                continue;
            };
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (rows, ..) = reader.read_records(ROWS, Some(&mut levels), None, &mut values)?;
            if rows == 0 {
                self.reader = None;
                continue;
            }
            let mut values = values.into_iter();
            if self.optional {
                let most =
                    self.file.metadata().file_metadata().schema_descr().column(self.leaf).max_def_level();
                let row = |level: i16| if level == most { values.next() } else { None };
                self.rows = levels.into_iter().map(row).collect();
            } else {
                self.rows = values.map(Some).collect();
            }
            self.rows.reverse();
            return Ok(());
        }
    }
}

//! Whole rows of a parquet file, as JSON objects.

use super::record::{MOST_RECORD_BYTES, place};
use super::text_source::TextSource;
use crate::error::{CurateError, Result};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};
use std::fs::File;
use thimble_files::contain;

/// Runs the library on a file; turns its panic on a damaged one into an error.
pub(super) fn contained<T>(
    read: impl FnOnce() -> std::result::Result<T, ParquetError>,
) -> std::result::Result<T, ParquetError> {
    contain("parquet", read).unwrap_or_else(|panic| Err(ParquetError::General(panic.to_string())))
}

/// The remaining rows of a file.
pub struct ParquetRows {
    file: SerializedFileReader<File>,
    next_group: usize,
    rows: Option<ReaderIter>,
    /// Rows of the open group to pass over.
    skip: u64,
}

impl ParquetRows {
    /// Opens `source` after its first `skip` rows.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no parquet file.
    pub fn open(source: &TextSource, skip: u64) -> Result<ParquetRows> {
        let file = File::open(&source.path).map_err(CurateError::file(&source.path, "open"))?;
        let file = contained(|| SerializedFileReader::new(file)).map_err(|error| {
            CurateError::Invalid(format!("{}: expected a whole parquet file: {error}", source.name))
        })?;
        let mut rows = ParquetRows { file, next_group: 0, rows: None, skip };
        while let Some(group) = rows.file.metadata().row_groups().get(rows.next_group) {
            let count = group.num_rows().max(0) as u64;
            if count > rows.skip {
                break;
            }
            rows.skip -= count;
            rows.next_group += 1;
        }
        Ok(rows)
    }

    /// The next row, which is number `record` of the file; none after the last one.
    ///
    /// # Errors
    /// A damaged file; a string that is not UTF-8.
    pub fn next(&mut self, source: &TextSource, record: u64) -> Result<Option<Value>> {
        let wrong = |what: String| CurateError::Invalid(format!("{}: {what}", place(source, record)));
        loop {
            if let Some(rows) = &mut self.rows {
                let row = contained(|| rows.next().transpose());
                let row = row.map_err(|error| {
                    wrong(format!("expected a whole parquet file: {error}; download it again"))
                })?;
                match row {
                    Some(_) if self.skip > 0 => self.skip -= 1,
                    Some(row) => return object(row).map(Some).map_err(wrong),
                    None => self.rows = None,
                }
                continue;
            }
            if self.next_group == self.file.num_row_groups() {
                return Ok(None);
            }
            let opened = contained(|| {
                let schema = self.file.metadata().file_metadata().schema_descr_ptr();
                TreeBuilder::new().as_iter(schema, &*self.file.get_row_group(self.next_group)?)
            });
            self.rows =
                Some(opened.map_err(|error| wrong(format!("expected a whole parquet file: {error}")))?);
            self.next_group += 1;
        }
    }

    /// Appends the next row as a line of JSON to `out`; false after the last one.
    pub(super) fn append(&mut self, source: &TextSource, record: u64, out: &mut Vec<u8>) -> Result<bool> {
        let Some(row) = self.next(source, record)? else { return Ok(false) };
        let start = out.len();
        let wrong = |what: String| CurateError::Invalid(format!("{}: {what}", place(source, record)));
        serde_json::to_writer(&mut *out, &row).map_err(|error| wrong(error.to_string()))?;
        if out.len() - start > MOST_RECORD_BYTES {
            return Err(wrong(format!(
                "expected a row of at most {MOST_RECORD_BYTES} bytes, found a longer one; split it"
            )));
        }
        Ok(true)
    }
}

fn object(row: Row) -> std::result::Result<Value, String> {
    let fields = row.into_columns().into_iter().map(|(name, field)| Ok((name, value(field)?)));
    Ok(Value::Object(fields.collect::<std::result::Result<Map<_, _>, String>>()?))
}

/// A parquet field as JSON.
fn value(field: Field) -> std::result::Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(error) => {
                return Err(format!("expected UTF-8 text, found another byte at {}", error.valid_up_to()));
            }
        },
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => {
            let items = list.elements().iter().cloned().map(value);
            Value::Array(items.collect::<std::result::Result<_, String>>()?)
        }
        // Dates, decimals and maps are text to whoever reads on.
        other => other.to_string().into(),
    })
}

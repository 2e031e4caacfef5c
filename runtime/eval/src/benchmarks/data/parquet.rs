//! Rows of parquet files as JSON objects.

use crate::benchmarks::error::{EvalError, Result};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;
use thimble_files::contain;

/// Appends the rows of `file` to `rows`.
pub(crate) fn append(file: &Path, rows: &mut Vec<Map<String, Value>>) -> Result<()> {
    let damaged = |error: ParquetError| EvalError::BenchmarkData {
        file: file.to_path_buf(),
        reason: format!("expected a whole parquet file: {error}"),
    };
    let open = File::open(file).map_err(EvalError::io("open", file))?;
    let read = contain("parquet", || {
        let reader = SerializedFileReader::new(open)?;
        for row in reader.get_row_iter(None)? {
            let columns = row?.into_columns();
            rows.push(columns.into_iter().map(|(name, field)| (name, value(&field))).collect());
        }
        Ok(())
    });
    read.unwrap_or_else(|panic| Err(ParquetError::General(panic.to_string()))).map_err(damaged)
}

/// The field as JSON; null for types that no task uses, such as times.
fn value(field: &Field) -> Value {
    match field {
        Field::Bool(yes) => Value::from(*yes),
        Field::Byte(n) => Value::from(*n),
        Field::Short(n) => Value::from(*n),
        Field::Int(n) => Value::from(*n),
        Field::Long(n) => Value::from(*n),
        Field::UByte(n) => Value::from(*n),
        Field::UShort(n) => Value::from(*n),
        Field::UInt(n) => Value::from(*n),
        Field::ULong(n) => Value::from(*n),
        Field::Float(x) => Value::from(*x),
        Field::Double(x) => Value::from(*x),
        Field::Str(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => {
            row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        _ => Value::Null,
    }
}

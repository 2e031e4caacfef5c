//! JSON files of a Hugging Face folder.

use crate::ConvertError;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::{fs, io};

/// Largest JSON file that is read.
const MAX_BYTES: u64 = 1 << 28;

/// Reads a whole file.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, ConvertError> {
    let fail = ConvertError::read(path);
    let len = fs::metadata(path).map_err(&fail)?.len();
    if len > MAX_BYTES {
        return Err(fail(io::Error::other(format!("{len} bytes, at most {MAX_BYTES} are read"))));
    }
    fs::read(path).map_err(fail)
}

/// Parses the content of the file `path`.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConvertError> {
    serde_json::from_slice(bytes).map_err(|source| ConvertError::Json { path: path.to_owned(), source })
}

/// Reads a JSON file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConvertError> {
    parse(path, &bytes(path)?)
}

/// Reads a JSON file; `None` if there is none.
pub(super) fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConvertError> {
    if path.is_file() { read(path).map(Some) } else { Ok(None) }
}

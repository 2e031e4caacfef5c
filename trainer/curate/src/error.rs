//! The crate's error.

use std::path::{Path, PathBuf};

/// An error of curation: what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CurateError {
    /// A file could not be read or written.
    #[error("{path}: cannot {doing}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done, as a verb: "read", "write".
        doing: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// Invalid input, with its place.
    #[error("{0}")]
    Invalid(String),
    /// Wrong usage of the command line.
    #[error("{0}")]
    Usage(String),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, CurateError>;

impl CurateError {
    /// For `map_err` on a file operation.
    pub fn file(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> CurateError {
        let path = path.to_path_buf();
        move |source| CurateError::File { path, doing, source }
    }
}

//! The trainer's error.

use std::path::{Path, PathBuf};
use thimble_curate::error::CurateError;

/// An error of the trainer: what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// A recipe that cannot be read or trained, with each fault's place and key.
    #[error(transparent)]
    Recipe(#[from] crate::recipe::RecipeError),
    /// Wrong usage of the command line.
    #[error("{0}")]
    Usage(String),
    /// A signal ended the work early: how far it got, and how to continue.
    #[error("{0}")]
    Stopped(String),
}

/// The trainer's result.
pub type Result<T> = std::result::Result<T, Error>;

impl From<CurateError> for Error {
    fn from(error: CurateError) -> Error {
        match error {
            CurateError::File { path, doing, source } => Error::File { path, doing, source },
            CurateError::Invalid(what) => Error::Invalid(what),
            CurateError::Usage(what) => Error::Usage(what),
        }
    }
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn file(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::File { path, doing, source }
    }

    /// 2 for wrong usage, 130 after a signal, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Stopped(_) => 130,
            Error::Recipe(error) if error.faults.iter().any(|fault| fault.is_override()) => 2,
            _ => 1,
        }
    }
}

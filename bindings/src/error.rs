//! Errors: a variant only where an app would do something different.

use thimble_chat::ChatError;
use thimble_files::OpenError;
use thimble_host::{GeneratorError, PlanError};
use thimble_runtime::format::FormatError;
use thimble_runtime::session::SessionError;

/// Why a call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, uniffi::Error)]
pub enum ApiError {
    /// There is no such file: let the user choose or download one.
    #[error("there is no file {path}; check the path, or download the file")]
    NotFound {
        /// What was looked for.
        path: String,
    },
    /// Another kind of file: let the user choose another one.
    #[error("{path} is not a .thimble file; use another file, or convert it with `thimble convert`")]
    NotAModel {
        /// The file.
        path: String,
    },
    /// A damaged model file: download it again.
    #[error("{path} is damaged ({reason}); copy or download it again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// More memory than the budget: ask for a shorter context or a smaller model.
    #[error(
        "the model needs {needed} bytes, but the budget is {budget}; use a shorter context, a smaller model or a larger budget"
    )]
    TooLarge {
        /// Bytes of file and state.
        needed: u64,
        /// The most that was allowed.
        budget: u64,
    },
    /// The message does not fit the context: shorten it.
    #[error("{message}")]
    ContextFull {
        /// With the figures.
        message: String,
    },
    /// The work was stopped. For wrappers: the worker reports a stopped answer as an end, `Finish::Cancelled`.
    #[error("cancelled")]
    Cancelled,
    /// Anything else, as a sentence.
    #[error("{message}")]
    Other {
        /// The sentence.
        message: String,
    },
}

impl ApiError {
    /// Any other error, as its message.
    pub(crate) fn other(error: impl std::fmt::Display) -> ApiError {
        ApiError::Other { message: error.to_string() }
    }

    /// What is wrong with the bytes of a file.
    pub(crate) fn format(path: &str, error: &FormatError) -> ApiError {
        match error {
            FormatError::BadMagic { .. } | FormatError::TooShort { .. } => {
                ApiError::NotAModel { path: path.to_owned() }
            }
            // Undamaged but for another version: downloading it again would not help.
            FormatError::Version { .. } | FormatError::UnknownSection { .. } => {
                ApiError::other(format!("{path} cannot be used: {error}"))
            }
            other => ApiError::Damaged { path: path.to_owned(), reason: other.to_string() },
        }
    }

    /// Why a file cannot be opened.
    pub(crate) fn open(path: &str, error: OpenError) -> ApiError {
        match error {
            OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ApiError::NotFound { path: path.to_owned() }
            }
            OpenError::NotAFile { .. } => ApiError::NotAModel { path: path.to_owned() },
            OpenError::Format { source, .. } => ApiError::format(path, &source),
            other => ApiError::other(other),
        }
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> ApiError {
        ApiError::other(error)
    }
}

impl From<GeneratorError> for ApiError {
    fn from(error: GeneratorError) -> ApiError {
        ApiError::other(error)
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> ApiError {
        match error {
            SessionError::ContextFull { .. } => ApiError::ContextFull { message: error.to_string() },
            other => ApiError::other(other),
        }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> ApiError {
        match error {
            ChatError::TooLong { .. } => ApiError::ContextFull { message: error.to_string() },
            ChatError::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ApiError::NotFound { path: path.display().to_string() }
            }
            other => ApiError::other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, FormatError};

    #[test]
    fn a_file_for_another_version_is_not_damaged() {
        for error in
            [FormatError::UnknownSection { kind: 77 }, FormatError::Version { expected: 1, found: 2 }]
        {
            let shown = ApiError::format("m", &error);
            assert!(matches!(&shown, ApiError::Other { message } if message.contains("update")), "{shown}");
        }
        let damage = FormatError::HeaderChecksum { expected: 1, found: 2 };
        assert!(matches!(ApiError::format("m", &damage), ApiError::Damaged { .. }));
    }
}

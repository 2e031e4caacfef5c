//! Why a command failed, in one sentence for the person who typed it.

use crate::catalogue;
use crate::repository;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use thimble_chat::ChatError;
use thimble_runtime::format::FormatError;
use thiserror::Error;

/// Everything that ends a command early.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Flags that contradict each other or the model; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Neither a name of the catalogue nor a path.
    #[error("no model is called {name:?}{}", suggestion(.name))]
    UnknownModel {
        /// What was typed.
        name: String,
    },
    /// A path to no file.
    #[error(
        "there is no file {}: expected a .thimble file, a GGUF file or a Hugging Face folder, or a name from `thimble list`{}",
        .path.display(), pull_hint(.path)
    )]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// A source to convert that does not exist.
    #[error("{} does not exist: expected a Hugging Face folder, a .gguf or a .thimble file, or a name from `thimble list`",
            .path.display())]
    NoSource {
        /// The path.
        path: PathBuf,
    },
    /// A folder that holds no model.
    #[error("{} is a folder without a config.json: expected a Hugging Face folder, a .gguf or a .thimble file, or a name \
             from `thimble list`", .path.display())]
    Folder {
        /// The path.
        path: PathBuf,
    },
    /// A conversation that cannot go on or be saved.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A file that cannot be written as asked.
    #[error(transparent)]
    Output(#[from] thimble_files::OutputError),
    /// A model of another format where a `.thimble` file has to be.
    #[error("{} is not a .thimble file; convert it with `thimble convert {0} -o FILE.thimble`", .path.display())]
    NotThimble {
        /// The path.
        path: PathBuf,
    },
    /// An invalid model file.
    #[error("{} cannot be used: {source}{}", .path.display(), remedy(.source, .pulled.as_deref()))]
    Format {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
        /// The catalogue name it was pulled under, if it was.
        pulled: Option<String>,
    },
    /// A model of the catalogue that is not on this machine, in a command that fetches nothing.
    #[error("{name} is not on this machine yet: fetch it with `thimble pull {name}`")]
    NotPulled {
        /// The name.
        name: &'static str,
    },
    /// A source could not be converted.
    #[error("{}", unconverted(.path, .reason, *.writing))]
    Convert {
        /// The source.
        path: PathBuf,
        /// The converter's own sentence.
        reason: String,
        /// Whether writing the target failed: then nothing is wrong with the source.
        writing: bool,
    },
    /// The folder for converted models cannot be used.
    #[error(
        "{} has to be converted first, and the result cannot be kept: {reason}; free some space, set THIMBLE_HOME to a \
         writable folder, or convert it yourself: `thimble convert {0} -o FILE.thimble`",
        .model.display()
    )]
    NoCache {
        /// The source.
        model: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb with its object: "read", "create the folder".
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Stdin without a prompt on it.
    #[error("stdin has no text: expected a prompt to continue (use --prompt \"\" to start from nothing)")]
    NoPrompt,
    /// A model without a chat template in a command that chats.
    #[error(
        "{name} is a base model: it has no chat template, so it continues text but does not answer messages; try \
             `thimble run {name} \"Once upon a time\"`"
    )]
    BaseModel {
        /// Its name or path.
        name: String,
    },
    /// Input that is not text.
    #[error("{input} is not UTF-8 text (invalid byte at offset {at}): save it as UTF-8")]
    NotUtf8 {
        /// "the text on stdin", or the file's name.
        input: String,
        /// Offset of the first invalid byte.
        at: usize,
    },
    /// Input of the wrong shape.
    #[error("{input}, line {line}{}: {reason}", column.map_or_else(String::new, |column| format!(", column {column}")))]
    Line {
        /// The file's name.
        input: String,
        /// Its line, counted from 1.
        line: usize,
        /// Its column, counted from 1, where that is known.
        column: Option<usize>,
        /// What was expected and what was found.
        reason: String,
    },
    /// More tokens than there is room for.
    #[error("{what} has {found} tokens, but the context has room for {room}: {remedy}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its tokens.
        found: usize,
        /// Tokens that fit.
        room: usize,
        /// What to do.
        remedy: String,
    },
    /// Chat inputs from a pipe that failed; each has reported its own reason.
    #[error("{}", failed_inputs(*.failed))]
    Inputs {
        /// How many.
        failed: usize,
    },
    /// A constrained answer that a limit ended; what there was of it is on stdout.
    #[error("the answer is not complete: {reason}; stdout has its beginning")]
    Incomplete {
        /// The limit, and the flag that raises it.
        reason: String,
    },
    /// The platform has no cache folder.
    #[error("there is no cache folder to keep models in: set THIMBLE_HOME to a folder of your choice")]
    NoHome,
    /// A feature that this build lacks.
    #[error(
        "{what} is not in this build: install it with `cargo install --path cli --features {feature}` \
             (`--features full` installs everything)"
    )]
    NotBuilt {
        /// What was typed.
        what: &'static str,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// Anything else, as a complete sentence.
    #[error("{0}")]
    Other(String),
    /// Stdout cannot be written.
    #[error("cannot write to stdout: {0}")]
    Stdout(#[from] io::Error),
}

impl Failure {
    /// An error of a lower layer whose text is a complete sentence.
    pub(crate) fn other(error: impl Display) -> Failure {
        Failure::Other(error.to_string())
    }

    /// What failed in a conversation with the model `name`.
    pub(crate) fn chat(name: &str, error: ChatError) -> Failure {
        match error {
            ChatError::NoTemplate => Failure::BaseModel { name: name.to_string() },
            other => Failure::Chat(other),
        }
    }

    /// JSON of the wrong shape that begins on this line of `input`.
    pub(crate) fn json(input: String, line: usize, expected: &str, error: &serde_json::Error) -> Failure {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let said = error.to_string();
        let reason = format!("expected {expected}: {}", said.strip_suffix(&place).unwrap_or(&said));
        let column = Some(error.column()).filter(|&column| column > 0);
        Failure::Line { input, line: line + error.line().saturating_sub(1), column, reason }
    }

    /// An I/O error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Failure {
        Failure::Io { action, path: path.to_path_buf(), source }
    }

    /// The process's exit code: 0 if the reader of our output has closed the pipe, 2 for wrong usage, 3 for an incomplete
    /// answer, otherwise 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Failure::Usage(_)
            | Failure::UnknownModel { .. }
            | Failure::NoFile { .. }
            | Failure::NoSource { .. } => 2,
            Failure::Incomplete { .. } => 3,
            _ => 1,
        }
    }
}

/// The converter's sentence, with the source in front unless it concerns the target or names the source itself.
fn unconverted(path: &Path, reason: &str, writing: bool) -> String {
    let shown = path.display().to_string();
    match writing || reason.starts_with(&shown) {
        true => reason.to_string(),
        false => format!("cannot convert {shown}: {reason}"),
    }
}

fn failed_inputs(failed: usize) -> String {
    match failed {
        1 => "1 input on stdin failed; the reason is above".to_string(),
        _ => format!("{failed} inputs on stdin failed; the reasons are above"),
    }
}

/// What to do about an invalid model file, after what the error itself says.
fn remedy(error: &FormatError, pulled: Option<&str>) -> String {
    use FormatError::{BadMagic, UnknownSection, Version};
    let said = matches!(error, BadMagic { .. } | Version { .. } | UnknownSection { .. });
    match pulled {
        Some(name) => {
            let or = if said { ", or" } else { ";" };
            format!("{or} fetch it again with `thimble pull {name} --force`")
        }
        None if said => String::new(),
        None => "; copy or convert the file again".to_string(),
    }
}

/// What may have been meant by a path that does not exist.
fn pull_hint(path: &Path) -> String {
    match path.to_str().filter(|name| repository::is_repository(name)) {
        Some(name) => format!("; `thimble pull {name}` fetches that repository from the Hugging Face hub"),
        None => String::new(),
    }
}

fn suggestion(name: &str) -> String {
    match catalogue::nearest(name) {
        Some(nearest) => format!(": did you mean {nearest}?"),
        None => ": `thimble list` shows the names, and a path to a model works too".to_string(),
    }
}

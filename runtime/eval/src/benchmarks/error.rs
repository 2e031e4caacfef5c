//! Errors of an evaluation.

use crate::request::RequestError;
use std::path::{Path, PathBuf};
use thimble_host::{GeneratorError, PlanError};
use thimble_runtime::session::SessionError;
use thiserror::Error;

/// Result with [`EvalError`].
pub type Result<T> = std::result::Result<T, EvalError>;

/// Everything that ends an evaluation early.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// An unknown task name.
    #[error("no task is called {name:?}{}; expected `all` or names out of {known}",
            nearest.map_or_else(String::new, |near| format!(" (did you mean {near}?)")))]
    UnknownTask {
        /// The name found.
        name: String,
        /// The most similar task.
        nearest: Option<&'static str>,
        /// The known names, separated by commas.
        known: String,
    },
    /// An empty list of tasks.
    #[error("expected at least one task, found none: give task names, or `all`")]
    NoTasks,
    /// A task's data is missing.
    #[error("{reason}")]
    Missing {
        /// Where the search failed, and what to do.
        reason: String,
    },
    /// An invalid row of a task's data.
    #[error("{}, line {line}: {reason}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// Line, or row of a table, counted from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// An invalid file of a task's data.
    #[error("{}: {reason}", file.display())]
    BenchmarkData {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The action.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An output path that cannot be used.
    #[error(transparent)]
    Output(#[from] thimble_files::OutputError),
    /// Partial results that are damaged or belong to another evaluation.
    #[error("{}: {reason}", path.display())]
    PartialResults {
        /// The file of partial results.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The GPU failed; results of the CPU must not be mixed with those of the GPU.
    #[error("the GPU failed (see above); {}use --backend cpu with another -o to start over on the CPU",
            if *begun {"the same command resumes from the partial results, or "} else {""})]
    Gpu {
        /// Whether it had finished items.
        begun: bool,
    },
    /// A file that is not a result.
    #[error("{} is not a result of `thimble eval`: {reason}", path.display())]
    NotAResult {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A text that cannot become a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The model or its memory.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The session cannot start.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// Adapters that the model cannot have.
    #[error(transparent)]
    Adapter(#[from] thimble_runtime::adapter::AdapterError),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The model computes logits that are not finite.
    #[error(
        "{task}, item {index}: the model's log-likelihood is {found}, expected a finite number: its weights may be \
         damaged (`thimble verify` checks the file)"
    )]
    NotFinite {
        /// The task.
        task: &'static str,
        /// The item.
        index: usize,
        /// The log-likelihood.
        found: f64,
    },
    /// A thread panicked.
    #[error("a thread of the evaluation panicked; this is a bug in thimble")]
    Thread,
}

impl EvalError {
    /// An error of the operating system, with the action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EvalError {
        let path = path.to_path_buf();
        move |source| EvalError::Io { action, path, source }
    }
}

//! Why an evaluation cannot be made, in a sentence for the person who asked for it.

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
    /// No task has this name.
    #[error("no task is called {name:?}{}; expected `all` or names out of {known}",
            nearest.map_or_else(String::new, |near| format!(" (did you mean {near}?)")))]
    UnknownTask {
        /// What was asked for.
        name: String,
        /// The name most like it.
        nearest: Option<&'static str>,
        /// The known names, separated by commas.
        known: String,
    },
    /// A list of tasks without a task.
    #[error("expected at least one task, found none: name tasks, or `all`")]
    NoTasks,
    /// A task's data is not at hand.
    #[error("{reason}")]
    Missing {
        /// Where it was looked for and what to do.
        reason: String,
    },
    /// A row of a task's data that is not what the task needs.
    #[error("{}, line {line}: {reason}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// Line, or row of a table, counted from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// A task's data as a whole is not what the task needs.
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
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file that cannot be written as asked.
    #[error(transparent)]
    Output(#[from] thimble_files::OutputError),
    /// Partial results of another evaluation, or a damaged one.
    #[error("{}: {reason}", path.display())]
    PartialResults {
        /// The file of partial results.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The GPU was given up: what the CPU would add are numbers of another arithmetic.
    #[error("the GPU was given up, see above{}; on the CPU (--backend cpu) the evaluation begins anew, with another -o",
            if *begun {": the partial results were computed before, and the same command goes on from there"} else {""})]
    Gpu {
        /// It had answered items.
        begun: bool,
    },
    /// A result file that cannot be read as one.
    #[error("{} is not a result of `thimble eval`: {reason}", path.display())]
    NotAResult {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A text that cannot be asked about.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The model or its memory.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The session cannot be made.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// The session cannot go on.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The model computes no numbers.
    #[error(
        "{task}, item {index}: the model's log-likelihood is {found}, expected a finite number: its weights may be \
         damaged (`thimble verify` checks the file)"
    )]
    NotFinite {
        /// The task.
        task: &'static str,
        /// The item.
        index: usize,
        /// What came out.
        found: f64,
    },
    /// A thread ended before its work did.
    #[error("a thread of the evaluation ended early; this is a mistake in thimble")]
    Thread,
}

impl EvalError {
    /// An error of the operating system, with what was tried and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EvalError {
        let path = path.to_path_buf();
        move |source| EvalError::Io { action, path, source }
    }
}

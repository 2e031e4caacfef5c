//! How an evaluation ends: with its results, or stopped.

use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::item_runner::ItemOutcome;
use super::partial::PartialResults;
use super::results::Results;
use super::samples;
use std::path::PathBuf;

/// How an evaluation ended.
#[derive(Debug)]
pub enum Ended {
    /// It is complete. [`Evaluated::finish`] writes the results and removes the partial ones.
    Complete(Box<Evaluated>),
    /// It was stopped.
    Stopped(Stopped),
}

/// An evaluation that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Items done.
    pub items: usize,
    /// All items.
    pub of: usize,
    /// The file of partial results, if the caller asked for one.
    pub partial: Option<PathBuf>,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stopped { items, of, partial } = self;
        match partial {
            Some(partial) => write!(
                f,
                "stopped after {items} of {of} items; the same command resumes from {}",
                partial.display()
            ),
            None => write!(
                f,
                "stopped after {items} of {of} items; nothing was saved (use -o OUT.json to be able to resume)"
            ),
        }
    }
}

/// A complete evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// The results.
    pub results: Results,
    /// The items.
    pub data: Vec<BenchmarkData>,
    /// The outcomes of each task, in the order of its items.
    pub outcomes: Vec<Vec<ItemOutcome>>,
    pub(crate) outputs: Outputs,
}

impl Evaluated {
    /// Writes results and samples as requested, then removes the partial results.
    pub fn finish(&self) -> Result<()> {
        let Outputs { result, samples } = &self.outputs;
        result.as_ref().map_or(Ok(()), |path| self.results.write(path))?;
        samples.as_ref().map_or(Ok(()), |path| samples::write(path, &self.data, &self.outcomes))?;
        let Some(result) = result else { return Ok(()) };
        let partial = PartialResults::path_of(result);
        std::fs::remove_file(&partial).map_err(EvalError::io("remove", &partial))
    }
}

/// Resolved output paths.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    pub(crate) result: Option<PathBuf>,
    pub(crate) samples: Option<PathBuf>,
}

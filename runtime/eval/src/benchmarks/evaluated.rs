//! How an evaluation ends: with its results, or stopped.

use super::answerer::ItemOutcome;
use super::data::BenchmarkData;
use super::error::{EvalError, Result};
use super::partial::PartialResults;
use super::results::Results;
use super::samples;
use std::path::PathBuf;

/// What became of an evaluation.
#[derive(Debug)]
pub enum Ended {
    /// It is complete. The results are not written yet; the partial results are there until [`Evaluated::finish`].
    Complete(Box<Evaluated>),
    /// It was stopped.
    Stopped(Stopped),
}

/// An evaluation that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Items done.
    pub items: usize,
    /// Items in all.
    pub of: usize,
    /// The partial results that hold them, if one was asked for.
    pub partial: Option<PathBuf>,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stopped { items, of, partial } = self;
        match partial {
            Some(partial) => write!(
                f,
                "stopped after {items} of {of} items, which are kept in {}: the same command goes on from there",
                partial.display()
            ),
            None => {
                write!(f, "stopped after {items} of {of} items: with -o OUT.json it could go on from there")
            }
        }
    }
}

/// A complete evaluation.
#[derive(Debug)]
pub struct Evaluated {
    /// What it found.
    pub results: Results,
    /// The items.
    pub data: Vec<BenchmarkData>,
    /// For each task what the model made of its items, in the items' order.
    pub outcomes: Vec<Vec<ItemOutcome>>,
    pub(crate) outputs: Outputs,
}

impl Evaluated {
    /// Writes results and samples where they were asked for, and removes the partial results once all is written.
    pub fn finish(&self) -> Result<()> {
        let Outputs { result, samples } = &self.outputs;
        result.as_ref().map_or(Ok(()), |path| self.results.write(path))?;
        samples.as_ref().map_or(Ok(()), |path| samples::write(path, &self.data, &self.outcomes))?;
        let Some(result) = result else { return Ok(()) };
        let partial = PartialResults::path_of(result);
        std::fs::remove_file(&partial).map_err(EvalError::io("remove", &partial))
    }
}

/// Where files are written to.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    pub(crate) result: Option<PathBuf>,
    pub(crate) samples: Option<PathBuf>,
}

//! `thimble compare`: two results of `thimble eval` side by side.

use crate::failure::Failure;
use crate::flags::CompareFlags;
use crate::workspace;
use std::io::Write;
use std::path::PathBuf;
use thimble_eval::Results;

/// Which two.
pub(crate) struct Job {
    first: PathBuf,
    second: PathBuf,
}

impl Job {
    /// Takes the names.
    pub(crate) fn resolve(flags: CompareFlags) -> Result<Job, Failure> {
        Ok(Job { first: flags.first, second: flags.second })
    }

    /// Writes the table.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let first = Results::read(&self.first).map_err(workspace::engine)?;
        let second = Results::read(&self.second).map_err(workspace::engine)?;
        Ok(write!(stdout, "{}", thimble_eval::compare(&first, &second))?)
    }
}

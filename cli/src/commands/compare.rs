//! `thimble compare`: two results of `thimble eval` side by side.

use crate::failure::Failure;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use thimble_eval::Results;

/// `thimble compare`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A result of `thimble eval -o`
    #[arg(value_name = "A.json")]
    first: PathBuf,
    /// Another one
    #[arg(value_name = "B.json")]
    second: PathBuf,
}

/// Writes the table.
pub(crate) fn run(flags: &Flags, stdout: &mut dyn Write) -> Result<(), Failure> {
    let first = Results::read(&flags.first).map_err(Failure::other)?;
    let second = Results::read(&flags.second).map_err(Failure::other)?;
    Ok(write!(stdout, "{}", thimble_eval::compare(&first, &second))?)
}

//! JSON on stdout.

use crate::failure::Failure;
use serde::Serialize;
use std::io::{self, Write};

/// One line of JSON.
pub(crate) fn write(stdout: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *stdout, value).map_err(io::Error::from)?;
    Ok(writeln!(stdout)?)
}

/// Indented JSON.
pub(crate) fn write_pretty(stdout: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *stdout, value).map_err(io::Error::from)?;
    Ok(writeln!(stdout)?)
}

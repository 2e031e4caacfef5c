//! `thimble convert`: a model of another format becomes a `.thimble` file.

use crate::conversion;
use crate::failure::Failure;
use crate::flags::ConvertFlags;
use std::io::Write;
use std::path::PathBuf;

/// From where to where.
pub(crate) struct Job {
    source: PathBuf,
    output: PathBuf,
    quant: conversion::Quant,
}

impl Job {
    /// Refuses an unknown encoding before anything is read.
    pub(crate) fn resolve(flags: ConvertFlags) -> Result<Job, Failure> {
        let quant = conversion::quant(&flags.quant)?;
        Ok(Job { source: flags.source, output: flags.output, quant })
    }

    /// Converts; a summary goes to stderr.
    pub(crate) fn run(self, _stdout: &mut dyn Write) -> Result<(), Failure> {
        conversion::convert(
            &self.source,
            &self.output,
            &conversion::Request { quant: self.quant, origin: None },
        )
    }
}

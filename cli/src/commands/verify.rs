//! `thimble verify`: every byte against its checksum.

use crate::adapters;
use crate::failure::Failure;
use crate::file_kind;
use crate::model::Location;
use crate::workspace::Mapped;
use clap::Args;
use std::io::Write;
use thimble_runtime::adapter::ADAPTER_MAGIC;

/// `thimble verify`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A .thimble or an .adapter file, or a name from `thimble list` that is on this machine
    #[arg(value_name = "FILE")]
    file: String,
}

/// Which file.
pub(crate) struct Job {
    location: Location,
}

impl Job {
    /// Locates the file.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: Location::resolve(Some(&flags.file))? })
    }

    /// Confirms that the file is sound, or fails with what is not.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = self.location.local()?;
        if file_kind::begins_with(&path, &ADAPTER_MAGIC) {
            let adapter = adapters::open(&path)?;
            let (file, path) = (adapters::view(&adapter)?, path.display());
            file.verify().map_err(|error| Failure::Other(format!("{path}: {error}")))?;
            let (bytes, count) = (file.bytes().len(), file.records().count());
            return Ok(writeln!(
                stdout,
                "{path} is sound: {bytes} bytes with adapters of {count} matrices match their checksums"
            )?);
        }
        let mapped = Mapped::open(&path)?;
        mapped.verify()?;
        let file = mapped.file()?;
        let (bytes, sections, path) = (file.bytes().len(), file.sections().count(), path.display());
        Ok(writeln!(stdout, "{path} is sound: {bytes} bytes in {sections} sections match their checksums")?)
    }
}

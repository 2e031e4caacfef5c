//! `thimble verify`: every byte against its checksum.

use crate::failure::Failure;
use crate::model::Location;
use crate::workspace::Mapped;
use clap::Args;
use std::io::Write;

/// `thimble verify`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A .thimble file, or a name from `thimble list` that is on this machine
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
        let mapped = Mapped::open(&path)?;
        mapped.verify()?;
        let file = mapped.file()?;
        let (bytes, sections, path) = (file.bytes().len(), file.sections().count(), path.display());
        Ok(writeln!(stdout, "{path} is sound: {bytes} bytes in {sections} sections match their checksums")?)
    }
}

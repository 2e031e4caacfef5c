//! `thimble verify`: every byte against its checksum.

use crate::failure::Failure;
use crate::flags::VerifyFlags;
use crate::model::Location;
use crate::workspace::Mapped;
use std::io::Write;

/// Which file.
pub(crate) struct Job {
    location: Location,
}

impl Job {
    /// Names the file.
    pub(crate) fn resolve(flags: VerifyFlags) -> Result<Job, Failure> {
        Ok(Job { location: Location::resolve(Some(&flags.file))? })
    }

    /// Says that the file is sound, or fails with what is not.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let path = self.location.local()?;
        let mapped = Mapped::open(&path)?;
        let file = mapped.file()?;
        file.verify().map_err(|source| Failure::Format { path: path.clone(), source })?;
        let (bytes, parts) = (file.bytes().len(), file.parts().count());
        Ok(writeln!(
            stdout,
            "{} is sound: {bytes} bytes in {parts} sections match their checksums",
            path.display()
        )?)
    }
}

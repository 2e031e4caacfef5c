//! What people look at: progress, metrics, TensorBoard events, plots, and a run folder's README.

pub mod metrics;
pub mod plot;
pub mod progress;
pub mod readme;
pub mod tensorboard;

use crate::data::token_set::write_atomically;
use crate::error::{Error, Result};
use std::path::Path;

/// A temporary file that replaces another when it is complete.
struct AtomicFile(tempfile::NamedTempFile);

impl AtomicFile {
    fn of(path: &Path) -> Result<AtomicFile> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".writing-");
        // A temporary file is private by default, and the rename would keep that.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(AtomicFile(builder.tempfile_in(folder).map_err(Error::file(path, "write"))?))
    }

    fn commit(self, path: &Path) -> Result<()> {
        self.0.as_file().sync_all().map_err(Error::file(path, "write"))?;
        self.0.persist(path).map_err(|error| Error::file(path, "write")(error.error))?;
        Ok(())
    }
}

//! Files that appear complete or not at all.

use super::error::{EvalError, Result};
use std::io::Write;
use std::path::Path;

/// Writes a file atomically, through a temporary one in the same folder.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let all = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".thimble-").suffix(".part");
        // The mode of any new file, before the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        let mut out = std::io::BufWriter::new(&mut file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    all().map_err(EvalError::io("write", path))
}

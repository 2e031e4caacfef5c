//! The one way to replace a file: a temporary file beside it, renamed once it is complete and durable.

use crate::output::{parent, resolve};
use crate::unfinished::Unfinished;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// A file that appears under its name only when it is complete.
///
/// Dropped before [`AtomicFile::publish`], it leaves nothing behind; so does a process that calls
/// [`crate::remove_unfinished`] before it ends.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    // Behind the file: it is dropped after that is removed.
    _unfinished: Unfinished,
    destination: PathBuf,
}

impl AtomicFile {
    /// Creates a temporary file in the folder of `destination`, or of the file that it links to.
    ///
    /// # Errors
    /// Something other than a file is at the destination, or the system refuses the temporary file.
    pub fn create(destination: &Path) -> io::Result<AtomicFile> {
        let destination = resolve(destination)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".thimble-").suffix(".part");
        // The permissions of any new file, less the process's mask: by default a temporary file is its owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(parent(&destination))?;
        Ok(AtomicFile::new(temporary, destination))
    }

    /// The same under the fixed name `NAME.partial`: a rerun replaces what a killed process left. For folders that only one
    /// process writes to.
    ///
    /// # Errors
    /// Those of [`AtomicFile::create`].
    pub fn create_partial(destination: &Path) -> io::Result<AtomicFile> {
        let destination = resolve(destination)?;
        let mut partial = destination.as_os_str().to_owned();
        partial.push(".partial");
        let file = File::create(&partial)?;
        let temporary = NamedTempFile::from_parts(file, TempPath::try_from_path(partial)?);
        Ok(AtomicFile::new(temporary, destination))
    }

    fn new(temporary: NamedTempFile, destination: PathBuf) -> AtomicFile {
        AtomicFile { _unfinished: Unfinished::new(temporary.path()), temporary, destination }
    }

    /// A buffered writer into the temporary file.
    pub fn writer(&mut self) -> BufWriter<&mut File> {
        BufWriter::with_capacity(1 << 20, self.temporary.as_file_mut())
    }

    /// Makes the bytes durable and renames the file to its destination, over an older one if there is one.
    ///
    /// # Errors
    /// The system refuses; the older file then stays.
    pub fn publish(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.destination).map_err(|error| error.error)?;
        // The file has its name. Folders that cannot be read, and some file systems, refuse this sync.
        let _ = sync_folder(parent(&self.destination));
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.temporary.seek(to)
    }
}

/// Replaces `path` by `bytes`, whole or not at all.
///
/// # Errors
/// Those of [`AtomicFile`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |out| out.write_all(bytes))
}

/// Replaces `path` by what `content` writes, whole or not at all.
///
/// # Errors
/// Those of [`AtomicFile`] and of `content`.
pub fn write_with(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    let mut out = file.writer();
    content(&mut out)?;
    out.flush()?;
    drop(out);
    file.publish()
}

/// Makes the names in a folder durable; only Unix can open one.
///
/// # Errors
/// The system refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |out| {
            out.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"old".to_vec(), vec!["file".to_owned()])
        );
        write(&path, b"new").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"new".to_vec(), vec!["file".to_owned()])
        );
        let partial = AtomicFile::create_partial(&path).unwrap();
        assert_eq!(names(folder.path()), ["file", "file.partial"]);
        partial.publish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (Vec::new(), vec!["file".to_owned()]));
        assert!(write(folder.path(), b"").is_err());
        assert!(write(&folder.path().join("none/file"), b"").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        symlink("file", &link).unwrap();
        write(&link, b"x").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"x");
        // As `fs::write` would have made it.
        fs::write(folder.path().join("plain"), "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&file), mode(&folder.path().join("plain")));
    }
}

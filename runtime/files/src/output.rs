//! The output files of a command: resolves their paths, and refuses one that would replace another file of the command.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why an output file is refused.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The path is a folder or a device.
    #[error("cannot write {}: it exists and is not a file", .0.display())]
    NotAFile(PathBuf),
    /// An I/O error.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path is another file of the same command.
    #[error("{what} would replace {other} ({}): choose another file", path.display())]
    Taken {
        /// The output.
        what: String,
        /// The file it would replace.
        other: String,
        /// The path.
        path: PathBuf,
    },
}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> io::Error {
        match error {
            OutputError::Io { source, .. } => source,
            OutputError::NotAFile(_) => io::Error::other("it exists and is not a file"),
            OutputError::Taken { .. } => io::Error::other(error),
        }
    }
}

/// Links to follow before a path counts as circular, as on Linux.
const MAX_LINKS: usize = 40;

/// The path to rename a finished file to: `path`, or the target of the symbolic links at its end.
///
/// To rename onto a link, a device or a pipe would replace it.
///
/// # Errors
/// [`OutputError::NotAFile`] if the path exists and is not a file.
pub fn resolve(path: &Path) -> Result<PathBuf, OutputError> {
    let failed = |source| OutputError::Io { path: path.to_path_buf(), source };
    // Ask the system: links below /proc do not lead where `read_link` says.
    match fs::metadata(path) {
        Ok(data) if !data.is_file() => return Err(OutputError::NotAFile(path.to_path_buf())),
        Ok(_) if fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink()) => {
            return fs::canonicalize(path).map_err(failed);
        }
        Ok(_) => return Ok(path.to_path_buf()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    // The target does not exist, but links to it may: each is relative to its own folder.
    let mut real = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&real) {
            Ok(next) => real = real.parent().map_or_else(|| next.clone(), |folder| folder.join(&next)),
            Err(_) => return Ok(real),
        }
    }
    Err(failed(ErrorKind::InvalidInput.into()))
}

/// The folder that a file is in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A canonical path for a file, whether it exists or not.
fn identity(path: &Path) -> Option<PathBuf> {
    let name = || Some(fs::canonicalize(parent(path)).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(name)
}

/// The files that a command reads and writes.
#[derive(Clone, Debug, Default)]
pub struct OutputFiles {
    known: Vec<(String, PathBuf)>,
}

impl OutputFiles {
    /// Registers an input, with its name in messages: "the model".
    pub fn reads(&mut self, what: &str, path: &Path) {
        self.known.extend(identity(path).map(|path| (what.to_owned(), path)));
    }

    /// Registers an output, with its name in messages: "--report". Returns its resolved path. Nothing is written yet, so
    /// that mistakes show before the work.
    ///
    /// # Errors
    /// The path is not a file, its folder is missing, or it is registered already.
    pub fn writes(&mut self, what: &str, path: &Path) -> Result<PathBuf, OutputError> {
        let resolved = resolve(path)?;
        let failed = |source| OutputError::Io { path: path.to_path_buf(), source };
        match fs::metadata(parent(&resolved)) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(failed(ErrorKind::NotADirectory.into())),
            Err(source) => return Err(failed(source)),
        }
        let identity = identity(&resolved).ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
        if let Some((other, _)) = self.known.iter().find(|(_, known)| *known == identity) {
            let (what, other) = (what.to_owned(), other.clone());
            return Err(OutputError::Taken { what, other, path: path.to_path_buf() });
        }
        self.known.push((what.to_owned(), identity));
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        fs::write(&old, "").unwrap();
        assert_eq!(resolve(&new).unwrap(), new);
        assert_eq!(resolve(&old).unwrap(), old);
        assert!(resolve(folder.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_refused() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let path = |name: &str| base.join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("sub")).unwrap();
        symlink("file", path("to-file")).unwrap();
        symlink("../nothing", path("sub/to-nothing")).unwrap();
        symlink("sub/to-nothing", path("twice")).unwrap();
        symlink("circle", path("circle")).unwrap();
        symlink("/dev/null", path("device")).unwrap();
        assert_eq!(resolve(&path("to-file")).unwrap(), path("file"));
        let nothing = resolve(&path("twice")).unwrap();
        fs::write(&nothing, "now").unwrap();
        assert_eq!(fs::read(path("nothing")).unwrap(), b"now");
        for wrong in [path("circle"), path("device"), "/dev/null".into()] {
            assert!(resolve(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_output_replaces_another_file_of_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        fs::write(path("model"), "").unwrap();
        let mut files = OutputFiles::default();
        files.reads("the model", &path("model"));
        files.reads("a file that is not there", &path("nowhere/file"));
        let refused = files.writes("-o", &path("sub/../model")).unwrap_err().to_string();
        assert!(refused.starts_with("-o would replace the model"), "{refused}");
        assert_eq!(files.writes("-o", &path("out")).unwrap(), path("out"));
        let refused = files.writes("--samples", &path("sub/../out")).unwrap_err().to_string();
        assert!(refused.starts_with("--samples would replace -o"), "{refused}");
        assert!(files.writes("--samples", &path("nowhere/out")).is_err());
        assert!(files.writes("--samples", &path("model/out")).is_err());
        assert!(!path("out").exists());
    }
}

//! Where a file that is to be written really goes.

use crate::failure::Failure;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Links followed before a path counts as a circle; Linux gives up at as many.
const MOST_LINKS: usize = 40;

/// The path to rename a finished file to: `path`, or where the symbolic links at its end lead.
///
/// Renaming onto a link would replace the link, and onto a device or a pipe would replace that.
/// [`Failure::NotAFile`] where something other than a file is there.
pub(crate) fn real(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |source| Failure::io("write", path, source);
    // What the system makes of it decides: the links below /proc do not lead where they say.
    match fs::metadata(path) {
        Ok(data) if !data.is_file() => return Err(Failure::NotAFile { path: path.to_path_buf() }),
        Ok(_) if fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink()) => {
            return fs::canonicalize(path).map_err(failed);
        }
        Ok(_) => return Ok(path.to_path_buf()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    // Nothing is there, but links to nothing may be: each is relative to its own folder.
    let mut real = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&real) {
            Ok(next) => real = real.parent().map_or_else(|| next.clone(), |folder| folder.join(&next)),
            Err(_) => return Ok(real),
        }
    }
    Err(failed(ErrorKind::InvalidInput.into()))
}

/// Whether writing to `target` would replace `source`, or a file in the folder `source` that a converter reads.
pub(crate) fn replaces(target: &Path, source: &Path) -> bool {
    let (Ok(target), Ok(source)) = (fs::canonicalize(target), fs::canonicalize(source)) else { return false };
    let ours = target.extension().is_some_and(|ext| ext == "thimble");
    let entries = fs::read_dir(&source).into_iter().flatten().flatten();
    let mut files = entries.filter_map(|entry| fs::canonicalize(entry.path()).ok());
    target == source || (!ours && files.any(|file| file == target))
}

#[cfg(test)]
mod tests {
    use super::{real, replaces};
    use std::fs;

    #[test]
    fn plain_paths_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        fs::write(&old, "").unwrap();
        assert_eq!(real(&new).unwrap(), new);
        assert_eq!(real(&old).unwrap(), old);
        assert!(real(folder.path()).is_err());
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
        assert_eq!(real(&path("to-file")).unwrap(), path("file"));
        let nothing = real(&path("twice")).unwrap();
        fs::write(&nothing, "now").unwrap();
        assert_eq!(fs::read(path("nothing")).unwrap(), b"now");
        for wrong in [path("circle"), path("device"), "/dev/null".into()] {
            assert!(real(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_source_is_recognised_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("hf")).unwrap();
        for file in ["m.gguf", "hf/config.json", "hf/m.thimble"] {
            fs::write(path(file), "").unwrap();
        }
        assert!(replaces(&path("hf/../m.gguf"), &path("m.gguf")));
        assert!(replaces(&path("hf/config.json"), &path("hf")));
        assert!(!replaces(&path("hf/m.thimble"), &path("hf")));
        assert!(!replaces(&path("hf/new"), &path("hf")));
        assert!(!replaces(&path("m.thimble"), &path("m.gguf")));
    }
}

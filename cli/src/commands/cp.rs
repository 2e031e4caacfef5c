//! `thimble cp`: a name for a model in the store.

use crate::catalogue;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::home::Home;
use crate::model::Location;
use crate::repository;
use crate::terminal;
use crate::workspace::Mapped;
use clap::Args;
use std::fs;
use std::io;
use std::path::Path;

/// `thimble cp`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A name from `thimble list`, or the path of a model
    #[arg(value_name = "FROM")]
    from: String,
    /// A new name: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "TO")]
    to: String,
    /// Replace a model that has this name
    #[arg(long)]
    force: bool,
}

/// Which model, under which name.
pub(crate) struct Job {
    home: Home,
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model and checks the name.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let Flags { from, to, .. } = &flags;
        if catalogue::find(to).is_some() {
            let reason = format!(
                "{to} is a name of the catalogue, for which `thimble pull` fetches the model: choose another"
            );
            return Err(Failure::Usage(reason));
        }
        if !repository::is_local(to) {
            return Err(Failure::Usage(format!(
                "{to:?} cannot name a model: expected at most 96 letters, digits, `-`, `_` and `.` without `--`, beginning \
                 with a letter or a digit"
            )));
        }
        Ok(Job { home: Home::find()?, location: Location::resolve(Some(from))?, flags })
    }

    /// Makes the name, with a line on stderr.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Flags { to, force, .. } = &self.flags;
        let source = self.location.fetch(Notes::Shown)?;
        // A name of a damaged file would be of no use.
        Mapped::open(&source)?.file()?;
        let _lock =
            self.home.lock(to, || terminal::note(&format!("another thimble writes {to}: waiting for it")))?;
        let target = self.home.model(to);
        if target.exists() && !force {
            return Err(Failure::Usage(format!(
                "a model is called {to} already: choose another name, or replace it with --force"
            )));
        }
        link_or_copy(&source, &target).map_err(|error| Failure::io("write", &target, error))?;
        terminal::note(&format!("{to} is a copy of {}", self.location.typed()));
        Ok(())
    }
}

/// Puts the file under another name at once: as a second link to its bytes where the file system can, because models are only
/// ever replaced as a whole.
fn link_or_copy(source: &Path, target: &Path) -> io::Result<()> {
    let source = fs::canonicalize(source)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new().prefix(".").suffix(".part").tempdir_in(folder)?;
    let link = temporary.path().join("model");
    match fs::hard_link(&source, &link) {
        Ok(()) => fs::rename(&link, target),
        Err(_) => thimble_files::write_with(target, |out| {
            io::copy(&mut fs::File::open(&source)?, out)?;
            Ok(())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::link_or_copy;
    use std::fs;

    #[test]
    fn a_copy_replaces_and_outlives_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let [source, target] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&source, "new").unwrap();
        fs::write(&target, "old").unwrap();
        link_or_copy(&source, &target).unwrap();
        fs::remove_file(&source).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(link_or_copy(&source, &target).is_err());
    }
}

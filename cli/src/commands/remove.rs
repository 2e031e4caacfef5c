//! `thimble remove`: deletes pulled models and conversions.

use crate::catalogue;
use crate::converted::{self, Conversion, Index};
use crate::failure::Failure;
use crate::home::Home;
use crate::terminal;
use clap::Args;
use std::fs;
use std::path::Path;

/// `thimble remove`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A name from `thimble list`, or the source of a conversion
    #[arg(value_name = "NAME", required_unless_present = "converted")]
    names: Vec<String>,
    /// Every conversion
    #[arg(long)]
    converted: bool,
}

/// What to delete.
pub(crate) struct Job {
    home: Home,
    flags: Flags,
}

impl Job {
    /// Locates the folder of models.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { home: Home::find()?, flags })
    }

    /// Deletes each, with a line on stderr.
    pub(crate) fn run(self) -> Result<(), Failure> {
        for name in &self.flags.names {
            self.remove(name)?;
        }
        if self.flags.converted {
            self.remove_conversions(|_| true)?;
            converted::remove_unnamed(&self.home, terminal::note)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let entry = catalogue::find(name).map(|entry| entry.name);
        let stored = Some(name).filter(|name| self.home.stored().iter().any(|known| known == name));
        if let Some(name) = entry.or(stored) {
            let path = self.home.model(name);
            if !path.is_file() {
                return Err(Failure::Other(format!("{name} is not on this machine")));
            }
            fs::remove_file(&path).map_err(|error| Failure::io("remove", &path, error))?;
            terminal::note(&format!("removed {name}"));
            return Ok(());
        }
        let source = fs::canonicalize(name).unwrap_or_else(|_| Path::new(name).to_path_buf());
        match self.remove_conversions(|known| known.name() == name || known.source == source)? {
            0 => Err(Failure::Usage(format!(
                "no model or conversion is called {name:?}: `thimble list` shows what is on this machine"
            ))),
            _ => Ok(()),
        }
    }

    /// Removes the chosen conversions and returns their number.
    fn remove_conversions(&self, chosen: impl Fn(&Conversion) -> bool) -> Result<usize, Failure> {
        if Index::read(&self.home).conversions.is_empty() {
            return Ok(0);
        }
        let _lock = self.home.lock_converted(terminal::note)?;
        let removed = Index::read(&self.home).remove(&self.home, chosen)?;
        for conversion in &removed {
            terminal::note(&format!(
                "removed the conversion {} of {}",
                conversion.name(),
                conversion.source.display()
            ));
        }
        Ok(removed.len())
    }
}

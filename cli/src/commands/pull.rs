//! `thimble pull`: fetches a model of the catalogue.

use crate::catalogue::{self, Entry};
use crate::failure::Failure;
use crate::flags::PullFlags;
use crate::home::Home;
use crate::pull::{self, Request};
use crate::{interrupt, recipe};
use std::io::Write;

/// Which model, and how.
pub(crate) struct Job {
    home: Home,
    entry: &'static Entry,
    request: Request,
}

impl Job {
    /// Finds the name in the catalogue.
    pub(crate) fn resolve(flags: PullFlags) -> Result<Job, Failure> {
        let unknown = || Failure::UnknownModel { name: flags.name.clone() };
        let entry = catalogue::find(&flags.name).ok_or_else(unknown)?;
        let quant = flags.quant.as_deref().map(recipe::quant).transpose()?;
        // Who names an encoding wants that one, whatever is there.
        let force = flags.force || quant.is_some();
        Ok(Job { home: Home::find()?, entry, request: Request { quant, force, refetch: flags.force } })
    }

    /// Fetches; the model's path goes to stdout.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        interrupt::tidying()?;
        let path = pull::pull(&self.home, self.entry, &self.request)?;
        Ok(writeln!(stdout, "{}", path.display())?)
    }
}

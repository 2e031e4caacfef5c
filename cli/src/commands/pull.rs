//! `thimble pull`: fetches a model of the catalogue.

use crate::catalogue::{self, Entry};
use crate::failure::Failure;
use crate::flags::recipe::encodings;
use crate::home::Home;
use crate::interrupt;
use crate::pull::{self, PullOptions};
use clap::Args;
use std::io::Write;
use thimble_converter::Quant;

/// What the help of `--quant` adds to the names.
const DEFAULT: &str = " [default: q8, or keep for a GGUF source]. Replaces the model's file if it has another encoding: \
                       only one is kept for each name";

/// `thimble pull`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A name from `thimble list`
    #[arg(value_name = "NAME")]
    name: String,
    #[arg(long, value_name = "ENCODING", help = encodings(DEFAULT))]
    quant: Option<Quant>,
    /// Fetch and convert again even if the model is present; weights that match their checksum are not downloaded again
    #[arg(long)]
    force: bool,
}

/// Which model, and how.
pub(crate) struct Job {
    home: Home,
    entry: &'static Entry,
    options: PullOptions,
}

impl Job {
    /// Finds the name in the catalogue.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let unknown = || Failure::UnknownModel { name: flags.name.clone() };
        let entry = catalogue::find(&flags.name).ok_or_else(unknown)?;
        let options = PullOptions { quant: flags.quant, force: flags.force };
        Ok(Job { home: Home::find()?, entry, options })
    }

    /// Fetches the model and writes its path.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        interrupt::remove_unfinished_files()?;
        let path = pull::pull(&self.home, self.entry, &self.options)?;
        Ok(writeln!(stdout, "{}", path.display())?)
    }
}

//! `thimble pull`: fetches a model of the catalogue or of any repository on the hub.

use crate::catalogue;
use crate::failure::Failure;
use crate::flags::recipe::encodings;
use crate::home::Home;
use crate::interrupt;
use crate::pull::{self, PullOptions, PullSource};
use crate::repository;
use clap::Args;
use std::io::Write;
use thimble_converter::Quant;

/// What the help of `--quant` adds to the names.
const DEFAULT: &str = " [default: q8, or keep for a GGUF source]. Replaces the model's file if it has another encoding: \
                       only one is kept for each name";

/// `thimble pull`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// A name from `thimble list`, or OWNER/NAME of a repository on the Hugging Face hub with a model of a known family
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
    source: PullSource,
    options: PullOptions,
}

impl Job {
    /// Finds the name or the repository in the catalogue, or takes it for another repository.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let source = match catalogue::find(&flags.name).or_else(|| catalogue::of_repository(&flags.name)) {
            Some(entry) => entry.into(),
            None if repository::is_repository(&flags.name) => PullSource::repository(&flags.name),
            None => return Err(Failure::UnknownModel { name: flags.name }),
        };
        let options = PullOptions { quant: flags.quant, force: flags.force };
        Ok(Job { home: Home::find()?, source, options })
    }

    /// Fetches the model and writes its path.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        interrupt::remove_unfinished_files()?;
        let path = pull::pull(&self.home, &self.source, &self.options)?;
        Ok(writeln!(stdout, "{}", path.display())?)
    }
}

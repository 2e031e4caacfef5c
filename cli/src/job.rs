//! What the flags mean: models named, contradictions refused, before anything is done.

use crate::commands::{list, pull};
use crate::failure::Failure;
use crate::flags::{Command, Flags};
use std::io::Write;
use std::time::Instant;

/// A command that makes sense.
pub(crate) enum Job {
    /// `thimble pull`.
    Pull(pull::Job),
    /// `thimble list`.
    List(list::Job),
}

impl Job {
    /// Names models and refuses contradictions. Opens nothing. `start` is when the process began.
    pub(crate) fn resolve(flags: Flags, _start: Instant) -> Result<Job, Failure> {
        Ok(match flags.command {
            Command::Pull(flags) => Job::Pull(pull::Job::resolve(flags)?),
            Command::List(flags) => Job::List(list::Job::resolve(flags)?),
            _ => return Err(Failure::Usage("not there yet".to_string())),
        })
    }

    /// Does it: results to `stdout`, everything else to stderr.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Job::Pull(job) => job.run(stdout),
            Job::List(job) => job.run(stdout),
        }?;
        stdout.flush().map_err(Failure::Stdout)
    }
}

//! What the flags mean: models named, contradictions refused, before anything is done.

use crate::commands::{
    bench, chat, convert, devices, divergence, export, inspect, list, perplexity, pull, run, score, tokens,
    verify,
};
#[cfg(feature = "eval")]
use crate::commands::{compare, eval};
use crate::failure::Failure;
use crate::flags::{Command, Flags};
use std::io::Write;
use std::time::Instant;

/// A command that makes sense.
pub(crate) enum Job {
    /// `thimble chat`
    Chat(Box<chat::Job>),
    /// `thimble run`
    Run(Box<run::Job>),
    /// `thimble pull`
    Pull(pull::Job),
    /// `thimble list`
    List(list::Job),
    /// `thimble tokens`
    Tokens(tokens::Job),
    /// `thimble score`
    Score(score::Job),
    /// `thimble perplexity`
    Perplexity(perplexity::Job),
    /// `thimble divergence`
    Divergence(Box<divergence::Job>),
    /// `thimble eval`
    #[cfg(feature = "eval")]
    Eval(Box<eval::Job>),
    /// `thimble compare`
    #[cfg(feature = "eval")]
    Compare(compare::Job),
    /// `thimble bench`
    Bench(Box<bench::Job>),
    /// `thimble devices`
    Devices(devices::Job),
    /// `thimble convert`
    Convert(convert::Job),
    /// `thimble export`
    Export(export::Job),
    /// `thimble inspect`
    Inspect(inspect::Job),
    /// `thimble verify`
    Verify(verify::Job),
}

impl Job {
    /// Names models and refuses contradictions. Reads no model. `start` is when the process began.
    pub(crate) fn resolve(flags: Flags, start: Instant) -> Result<Job, Failure> {
        Ok(match flags.command {
            Command::Chat(flags) => Job::Chat(Box::new(chat::Job::resolve(flags)?)),
            Command::Run(flags) => Job::Run(Box::new(run::Job::resolve(flags, start)?)),
            Command::Pull(flags) => Job::Pull(pull::Job::resolve(flags)?),
            Command::List(flags) => Job::List(list::Job::resolve(flags)?),
            Command::Tokens(flags) => Job::Tokens(tokens::Job::resolve(flags)?),
            Command::Score(flags) => Job::Score(score::Job::resolve(flags)?),
            Command::Perplexity(flags) => Job::Perplexity(perplexity::Job::resolve(flags)?),
            Command::Divergence(flags) => Job::Divergence(Box::new(divergence::Job::resolve(flags)?)),
            #[cfg(feature = "eval")]
            Command::Eval(flags) => Job::Eval(Box::new(eval::Job::resolve(flags)?)),
            #[cfg(feature = "eval")]
            Command::Compare(flags) => Job::Compare(compare::Job::resolve(flags)?),
            #[cfg(not(feature = "eval"))]
            Command::Eval(_) => return Err(Failure::LeftOut { what: "thimble eval", feature: "eval" }),
            #[cfg(not(feature = "eval"))]
            Command::Compare(_) => return Err(Failure::LeftOut { what: "thimble compare", feature: "eval" }),
            Command::Bench(flags) => Job::Bench(Box::new(bench::Job::resolve(flags)?)),
            Command::Devices(flags) => Job::Devices(devices::Job::resolve(flags)?),
            Command::Convert(flags) => Job::Convert(convert::Job::resolve(flags)?),
            Command::Export(flags) => Job::Export(export::Job::resolve(flags)?),
            Command::Inspect(flags) => Job::Inspect(inspect::Job::resolve(flags)?),
            Command::Verify(flags) => Job::Verify(verify::Job::resolve(flags)?),
        })
    }

    /// Does it: results to `stdout`, everything else to stderr.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Job::Chat(job) => job.run(stdout),
            Job::Run(job) => job.run(stdout),
            Job::Pull(job) => job.run(stdout),
            Job::List(job) => job.run(stdout),
            Job::Tokens(job) => job.run(stdout),
            Job::Score(job) => job.run(stdout),
            Job::Perplexity(job) => job.run(stdout),
            Job::Divergence(job) => job.run(stdout),
            #[cfg(feature = "eval")]
            Job::Eval(job) => job.run(stdout),
            #[cfg(feature = "eval")]
            Job::Compare(job) => job.run(stdout),
            Job::Bench(job) => job.run(stdout),
            Job::Devices(job) => job.run(stdout),
            Job::Convert(job) => job.run(stdout),
            Job::Export(job) => job.run(stdout),
            Job::Inspect(job) => job.run(stdout),
            Job::Verify(job) => job.run(stdout),
        }?;
        Ok(stdout.flush()?)
    }
}

//! The command `thimble`: chat with a small language model, run it, convert it, look into it.
//!
//! The default features are what a chat needs. What is heavy to build comes with a feature: `gpu`, `eval`, `calibrate`,
//! `plot`, `ggml`, or `full` for all but the last.
#![deny(unsafe_code)]

mod catalogue;
mod commands;
mod conversion;
mod failure;
mod flags;
mod home;
mod input;
mod interrupt;
mod job;
mod line;
mod model;
mod progress;
mod prompt;
mod pull;
mod quiet;
mod recipe;
mod report;
mod resources;
mod scratch;
mod slash;
mod target;
mod terminal;
mod workspace;
mod wrap;

use clap::Parser;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let start = Instant::now();
    let flags = flags::Flags::parse();
    let done = job::Job::resolve(flags, start).and_then(|job| job.run(&mut io::stdout().lock()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            if code != 0 {
                terminal::error(&failure);
            }
            ExitCode::from(code)
        }
    }
}

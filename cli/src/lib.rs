//! The command `thimble`: chat with a small language model, run, convert and inspect it.
//!
//! The default features are what a chat needs. Features that take long to build are optional: `gpu`, `eval`, `calibrate`,
//! `plot`, `ggml`, or `full` for all but the last.
#![deny(unsafe_code)]

mod adapters;
mod attach;
mod catalogue;
mod chats;
mod commands;
mod conversion;
mod converted;
mod failure;
mod file_kind;
mod flags;
mod home;
mod input;
mod interrupt;
mod json;
mod model;
mod progress;
mod pull;
mod repository;
mod resources;
mod stderr;
mod style;
mod target;
mod temporary_models;
mod terminal;
mod windows;
mod workspace;
mod wrap;

use clap::Parser;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let start = Instant::now();
    let flags = commands::Flags::parse();
    match flags.command.run(start, &mut io::stdout().lock()) {
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

//! The command `thimble-train`: text to a checkpoint that chats.
#![forbid(unsafe_code)]

mod commands;

use clap::Parser;
use std::process::ExitCode;
use thimble_trainer::error::Error;

fn main() -> ExitCode {
    match commands::Flags::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error {
                Error::Stopped(_) => eprintln!("{error}"),
                _ => eprintln!("error: {error}"),
            }
            ExitCode::from(error.exit_code())
        }
    }
}

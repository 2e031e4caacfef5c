//! The command `thimble-train`: text to a checkpoint that chats.
#![forbid(unsafe_code)]

mod commands;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::process::ExitCode;
use thimble_trainer::error::Error;

fn main() -> ExitCode {
    let flags = match commands::Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // A closed stream leaves nobody to tell.
            let _ = error.print();
            if lacks_model(&error) {
                eprintln!(
                    "\n  MODEL comes first: --data and --held-out take every name that follows them, as in\n  \
                     thimble-train finetune MODEL --data FILE"
                );
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match flags.command.run() {
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

/// Whether MODEL is missing, as where it was typed behind a flag that takes several names.
fn lacks_model(error: &clap::Error) -> bool {
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => names.iter().any(|name| name == "<MODEL>"),
        Some(ContextValue::String(name)) => name == "<MODEL>",
        _ => false,
    };
    missing && error.kind() == ErrorKind::MissingRequiredArgument
}

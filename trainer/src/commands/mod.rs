//! One file per command: its flags, and what it does.

mod device;
mod eval;
mod export;
mod parity;
mod plan;
mod plot;
mod pretrain;
mod tokenize;
mod train_tokenizer;

use clap::{Parser, Subcommand};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use thimble_trainer::error::{Error, Result};

/// Pretrain a small Llama and export it as a Hugging Face folder.
#[derive(Debug, Parser)]
#[command(name = "thimble-train", version, propagate_version = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Plan(plan::Flags),
    TrainTokenizer(train_tokenizer::Flags),
    Tokenize(tokenize::Flags),
    Pretrain(pretrain::Flags),
    Export(export::Flags),
    Eval(eval::Flags),
    Plot(plot::Flags),
    Parity(parity::Flags),
    Device(device::Flags),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Plan(flags) => flags.run(),
            Command::TrainTokenizer(flags) => flags.run(),
            Command::Tokenize(flags) => flags.run(),
            Command::Pretrain(flags) => flags.run(),
            Command::Export(flags) => flags.run(),
            Command::Eval(flags) => flags.run(),
            Command::Plot(flags) => flags.run(),
            Command::Parity(flags) => flags.run(),
            Command::Device(flags) => flags.run(),
        }
    }
}

/// The number asked for, or one for each core. The flags allow at most 1,024, so that a typo does not start more.
fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// A flag that Ctrl-C and SIGTERM set; the second signal ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Error::Invalid(format!("cannot listen for signal {signal}: {error}")))?;
    }
    Ok(stop)
}

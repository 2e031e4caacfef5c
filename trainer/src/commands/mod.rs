//! One file per command: what is typed, and what is done with it.

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
use thimble_trainer::error::Result;

/// Pretrain a small Llama and export it as a Hugging Face folder.
#[derive(Debug, Parser)]
#[command(name = "thimble-train", version, propagate_version = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Plan(plan::Args),
    TrainTokenizer(train_tokenizer::Args),
    Tokenize(tokenize::Args),
    Pretrain(pretrain::Args),
    Export(export::Args),
    Eval(eval::Args),
    Plot(plot::Args),
    Parity(parity::Args),
    Device(device::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Plan(args) => args.run(),
            Command::TrainTokenizer(args) => args.run(),
            Command::Tokenize(args) => args.run(),
            Command::Pretrain(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Plot(args) => args.run(),
            Command::Parity(args) => args.run(),
            Command::Device(args) => args.run(),
        }
    }
}

/// The number asked for, or one for each core. The limit of 1,024 is in the flags: a typo must not start a hundred thousand.
fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

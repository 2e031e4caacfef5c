//! One file per command: its flags, and what it does.

mod bench;
mod curate;
mod device;
mod eval;
mod export;
mod finetune;
mod flag_keys;
mod parity;
mod plan;
mod plot;
mod prefer;
mod pretrain;
mod quantize_aware;
mod report;
mod run_flags;
mod shared;
mod signals;
mod tokenize;
mod train_tokenizer;
mod tuning;

use clap::{Parser, Subcommand};
use thimble_trainer::error::Result;

/// Pretrain a small Llama, tune it, and export it as a Hugging Face folder.
#[derive(Debug, Parser)]
#[command(name = "thimble-train", version, propagate_version = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Plan(plan::Flags),
    Bench(bench::Flags),
    Curate(curate::Flags),
    TrainTokenizer(train_tokenizer::Flags),
    Tokenize(tokenize::Flags),
    Pretrain(pretrain::Flags),
    Finetune(finetune::Flags),
    Prefer(prefer::Flags),
    QuantizeAware(quantize_aware::Flags),
    Export(export::Flags),
    Eval(eval::Flags),
    Plot(plot::Flags),
    Report(report::Flags),
    Parity(parity::Flags),
    Device(device::Flags),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Plan(flags) => flags.run(),
            Command::Bench(flags) => flags.run(),
            Command::Curate(flags) => flags.run(),
            Command::TrainTokenizer(flags) => flags.run(),
            Command::Tokenize(flags) => flags.run(),
            Command::Pretrain(flags) => flags.run(),
            Command::Finetune(flags) => flags.run(),
            Command::Prefer(flags) => flags.run(),
            Command::QuantizeAware(flags) => flags.run(),
            Command::Export(flags) => flags.run(),
            Command::Eval(flags) => flags.run(),
            Command::Plot(flags) => flags.run(),
            Command::Report(flags) => flags.run(),
            Command::Parity(flags) => flags.run(),
            Command::Device(flags) => flags.run(),
        }
    }
}

//! The subcommands. Each has a file with its flags, `Job::resolve`, which checks them before any work, and `Job::run`.

mod bench;
mod chat;
mod chats;
#[cfg(feature = "eval")]
mod compare;
mod completions;
mod convert;
mod cp;
mod devices;
mod divergence;
mod embed;
#[cfg(feature = "eval")]
mod eval;
mod export;
mod inspect;
mod inspect_adapter;
mod list;
#[cfg(any(not(feature = "eval"), not(feature = "serve")))]
mod not_built;
mod perplexity;
mod pull;
mod remove;
mod run;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod show;
#[cfg(test)]
mod tests;
mod tokens;
mod verify;

use crate::failure::Failure;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::time::Instant;

/// Small language models, offline: chat with one, complete text, convert and inspect model files.
#[derive(Debug, Parser)]
#[command(name = "thimble", version, max_term_width = 100)]
pub(crate) struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Chat with a model in the terminal
    Chat(chat::Flags),
    /// List the conversations that `thimble chat` keeps, or delete some
    Chats(chats::Flags),
    /// Continue a text: the completion goes to stdout, statistics to stderr
    Run(run::Flags),
    /// Serve a model to programs and browsers on this machine, with OpenAI's API
    #[cfg(feature = "serve")]
    Serve(serve::Flags),
    /// Serve a model to programs and browsers on this machine, with OpenAI's API (not in this build: requires the feature `serve`)
    #[cfg(not(feature = "serve"))]
    Serve(not_built::Flags),
    /// Download a model from the catalogue or a repository on the Hugging Face hub and convert it
    Pull(pull::Flags),
    /// Show the catalogue, and which models and conversions are on this machine
    List(list::Flags),
    /// Show what a person asks about a model: size, context, template, licence, recommended sampling (`inspect` has all numbers)
    Show(show::Flags),
    /// Give a model of this machine another name in the store, without a second copy of its bytes where the disk can
    Cp(cp::Flags),
    /// Delete models and conversions from this machine
    #[command(visible_alias = "rm")]
    Remove(remove::Flags),
    /// Turn text on stdin into token ids, or ids into text
    Tokens(tokens::Flags),
    /// Score continuations by log-likelihood, one JSON object per line
    Score(score::Flags),
    /// Turn texts into vectors whose cosine says how similar they are, one JSON object per line
    Embed(embed::Flags),
    /// Measure perplexity on a text file
    Perplexity(perplexity::Flags),
    /// Measure how far a model's predictions diverge from a reference's
    Divergence(divergence::Flags),
    /// Run standard benchmarks (ARC, HellaSwag, MMLU, GSM8K, ...) and print accuracies
    #[cfg(feature = "eval")]
    Eval(eval::Flags),
    /// Compare two results of `thimble eval`
    #[cfg(feature = "eval")]
    Compare(compare::Flags),
    /// Run standard benchmarks (ARC, HellaSwag, MMLU, GSM8K, ...) and print accuracies (not in this build: requires the feature `eval`)
    #[cfg(not(feature = "eval"))]
    Eval(not_built::Flags),
    /// Compare two results of `thimble eval` (not in this build: requires the feature `eval`)
    #[cfg(not(feature = "eval"))]
    Compare(not_built::Flags),
    /// Measure a model's speed on this machine
    Bench(bench::Flags),
    /// Show this machine's GPUs, and what `--backend auto` chose for each model
    #[cfg_attr(not(feature = "gpu"), doc = "(not in this build: requires the feature `gpu`)")]
    Devices(devices::Flags),
    /// Convert a Hugging Face folder, a GGUF or a .thimble file to a .thimble or a GGUF file
    Convert(convert::Flags),
    /// Write a .thimble or a GGUF file as a Hugging Face folder or an ONNX graph
    Export(export::Flags),
    /// Show every number of a model file: configuration, parts, encodings, memory, provenance (`show` is the short form)
    Inspect(inspect::Flags),
    /// Check every byte of a .thimble file against its checksums
    Verify(verify::Flags),
    /// Print the completion script of a shell
    Completions(completions::Flags),
    /// Write manual pages
    Man(completions::ManFlags),
}

impl Command {
    /// Resolves the flags and does the job: results go to `stdout`, everything else to stderr. `start` is when the process
    /// began.
    pub(crate) fn run(self, start: Instant, stdout: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Command::Chat(flags) => chat::Job::resolve(flags)?.run(stdout),
            Command::Chats(flags) => chats::Job::resolve(flags)?.run(stdout),
            Command::Run(flags) => run::Job::resolve(flags, start)?.run(stdout),
            #[cfg(feature = "serve")]
            Command::Serve(flags) => serve::Job::resolve(flags)?.run(),
            #[cfg(not(feature = "serve"))]
            Command::Serve(_) => Err(Failure::NotBuilt { what: "thimble serve", feature: "serve" }),
            Command::Pull(flags) => pull::Job::resolve(flags)?.run(stdout),
            Command::List(flags) => list::Job::resolve(flags)?.run(stdout),
            Command::Show(flags) => show::Job::resolve(flags)?.run(stdout),
            Command::Cp(flags) => cp::Job::resolve(flags)?.run(),
            Command::Remove(flags) => remove::Job::resolve(flags)?.run(),
            Command::Tokens(flags) => tokens::Job::resolve(flags)?.run(stdout),
            Command::Score(flags) => score::Job::resolve(flags)?.run(stdout),
            Command::Embed(flags) => embed::Job::resolve(flags)?.run(stdout),
            Command::Perplexity(flags) => perplexity::Job::resolve(flags)?.run(stdout),
            Command::Divergence(flags) => divergence::Job::resolve(flags)?.run(stdout),
            #[cfg(feature = "eval")]
            Command::Eval(flags) => eval::Job::resolve(flags)?.run(stdout),
            #[cfg(feature = "eval")]
            Command::Compare(flags) => compare::run(&flags, stdout),
            #[cfg(not(feature = "eval"))]
            Command::Eval(_) => Err(Failure::NotBuilt { what: "thimble eval", feature: "eval" }),
            #[cfg(not(feature = "eval"))]
            Command::Compare(_) => Err(Failure::NotBuilt { what: "thimble compare", feature: "eval" }),
            Command::Bench(flags) => bench::Job::resolve(flags)?.run(stdout),
            Command::Devices(flags) => devices::Job::resolve(flags)?.run(stdout),
            Command::Convert(flags) => convert::Job::resolve(flags)?.run(),
            Command::Export(flags) => export::Job::resolve(flags)?.run(),
            Command::Inspect(flags) => inspect::Job::resolve(flags)?.run(stdout),
            Command::Verify(flags) => verify::Job::resolve(flags)?.run(stdout),
            Command::Completions(flags) => completions::run(&flags, stdout),
            Command::Man(flags) => completions::write_pages(&flags),
        }?;
        Ok(stdout.flush()?)
    }
}

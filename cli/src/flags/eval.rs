//! Flags of `thimble eval` and `thimble compare`.

use super::{MachineFlags, ModelFlags, at_least_one};
use clap::Args;
use std::path::PathBuf;

/// `thimble eval`.
#[derive(Args, Clone, Debug)]
pub(crate) struct EvalFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// `all`, or names separated by commas: arc_easy, arc_challenge, boolq, hellaswag, piqa, sciq, winogrande,
    /// truthfulqa, openbookqa, mmlu, gsm8k, lambada_openai
    #[arg(long, value_name = "NAMES", default_value = "all")]
    pub(crate) tasks: String,
    /// A folder with TASK/test.jsonl or TASK/validation.jsonl for each task [default: THIMBLE_DATA, or the hub's data
    /// sets, kept in THIMBLE_HOME]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Pass over the first K items of each task
    #[arg(long, value_name = "K", default_value = "0", allow_negative_numbers = true)]
    pub(crate) offset: usize,
    /// Take at most N items of each task
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) limit: Option<usize>,
    /// Write the results to this file; an interrupted evaluation goes on where it was
    #[arg(long, short, value_name = "OUT.json")]
    pub(crate) output: Option<PathBuf>,
    /// Write a line for each item: what was asked, the log-likelihoods, the decision
    #[arg(long, value_name = "OUT.jsonl")]
    pub(crate) samples: Option<PathBuf>,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// `thimble compare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareFlags {
    /// A result of `thimble eval -o`
    #[arg(value_name = "A.json")]
    pub(crate) first: PathBuf,
    /// Another one
    #[arg(value_name = "B.json")]
    pub(crate) second: PathBuf,
}

//! What was typed. Parsing touches no file: what it means is [`Job`](crate::job::Job)'s business.

#[cfg(feature = "eval")]
mod eval;
#[cfg(not(feature = "eval"))]
mod left_out;

use crate::commands::{bench, convert, devices, divergence, export};
use crate::recipe::RecipeFlags;
use crate::workspace::LOOKUP;
use clap::{Args, Parser, Subcommand, ValueEnum};
#[cfg(feature = "eval")]
pub(crate) use eval::{CompareFlags, EvalFlags};
#[cfg(not(feature = "eval"))]
use left_out::LeftOut;
use std::path::PathBuf;
use std::str::FromStr;
use thimble_host::BackendKind;
use thimble_runtime::kernels::KvKind;

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
    /// Talk with a model in the terminal
    Chat(ChatFlags),
    /// Continue a text: the completion goes to stdout, statistics to stderr
    Run(RunFlags),
    /// Fetch a model of the catalogue and convert it
    Pull(PullFlags),
    /// Show the catalogue and what of it is on this machine
    List(ListFlags),
    /// Turn text on stdin into token ids, or ids back into text
    Tokens(TokensFlags),
    /// Log-likelihoods of continuations, one JSON object per line
    Score(ScoreFlags),
    /// Perplexity of a text file
    Perplexity(PerplexityFlags),
    /// How far a model's predictions on a text are from a reference's
    Divergence(divergence::Flags),
    /// The benchmarks of the published table: accuracies and their standard errors
    #[cfg(feature = "eval")]
    Eval(EvalFlags),
    /// Two results of `thimble eval` side by side
    #[cfg(feature = "eval")]
    Compare(CompareFlags),
    /// The benchmarks of the published table (not in this program: feature `eval`)
    #[cfg(not(feature = "eval"))]
    Eval(LeftOut),
    /// Two results of `thimble eval` side by side (not in this program: feature `eval`)
    #[cfg(not(feature = "eval"))]
    Compare(LeftOut),
    /// How fast a model runs on this machine
    Bench(bench::Flags),
    /// Show the GPUs of this machine, and what `--backend auto` chose for which model
    #[cfg_attr(not(feature = "gpu"), doc = "(not in this program: feature `gpu`)")]
    Devices(devices::Flags),
    /// Convert a Hugging Face folder, a GGUF or a .thimble file to a .thimble or a GGUF file
    Convert(ConvertFlags),
    /// Write a .thimble or a GGUF file as a Hugging Face folder
    Export(export::Flags),
    /// Show what a .thimble file holds and the memory it takes
    Inspect(InspectFlags),
    /// Check every byte of a .thimble file against its checksums
    Verify(VerifyFlags),
}

/// Which model.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelFlags {
    /// A name from `thimble list`, or the path of a .thimble file [default: smollm2-135m-instruct]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

/// How it is computed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Computation")]
pub(crate) struct MachineFlags {
    /// Context in tokens: prompt and answer together [default: the model's limit, or what the command needs]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) context: Option<usize>,
    /// Threads [default: one for each core that this process may use]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Reference mode: activations stay f32
    #[arg(long)]
    pub(crate) exact: bool,
    /// Instruction set of the kernels [default: the best that this CPU has; also THIMBLE_KERNELS]
    #[arg(long, value_name = "NAME")]
    pub(crate) kernels: Option<String>,
    /// How keys and values are kept
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kv: Option<Kv>,
    /// Processors: cpu, gpu, gpu+cpu (prompts on the GPU, tokens one by one on the CPU), cpu+gpu, or auto: the fastest,
    /// measured at first use [default: cpu; also THIMBLE_BACKEND]
    #[cfg_attr(not(feature = "gpu"), doc = "(those with a GPU are not in this program: feature `gpu`)")]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<BackendKind>,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kv {
    /// 16-bit floats
    F16,
    /// 8 bits: half the memory
    Q8,
}

impl Kv {
    /// As the runtime names it.
    pub(crate) fn kind(self) -> KvKind {
        match self {
            Kv::F16 => KvKind::F16,
            Kv::Q8 => KvKind::Q8,
        }
    }
}

/// How the next token is chosen. `None` leaves the choice to the model's makers, or else to the command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling (the defaults hold where the model's makers recommend nothing else)")]
pub(crate) struct SamplingFlags {
    /// 0 always takes the likeliest token; higher is more varied [default: 0.2 for an answer, 0.7 for a continued text]
    #[arg(long, value_name = "T", value_parser = non_negative, allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all of them [default: 0]
    #[arg(long, value_name = "K", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) top_k: Option<usize>,
    /// Choose among the likeliest tokens that together reach probability P; 1 is all of them [default: 0.9 for an answer,
    /// 0.95 for a continued text]
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the likeliest [default: 0]
    #[arg(long, value_name = "P", value_parser = fraction, allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens that are among the last 64; 1 is off [default: 1.05 for an answer, 1 for a continued text]
    #[arg(long, value_name = "R", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f32>,
    /// Subtract this for each time that a token is among the last 64; 0 is off [default: 0]
    #[arg(long, value_name = "F", value_parser = finite, allow_hyphen_values = true)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Subtract this once where a token is among the last 64; 0 is off [default: 0]
    #[arg(long, value_name = "F", value_parser = finite, allow_hyphen_values = true)]
    pub(crate) presence_penalty: Option<f32>,
    /// Add a number to the logit of a token id, for example 198=-5; may be repeated
    #[arg(long = "logit-bias", value_name = "ID=BIAS", value_parser = bias, allow_hyphen_values = true)]
    pub(crate) biases: Vec<(u32, f32)>,
    /// Seed of the random choice [default: another one each time]
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

/// `thimble chat`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChatFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Longest answer in tokens [default: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) max_tokens: Option<usize>,
    /// Propose up to N tokens at a time from earlier text that repeats itself: the same output, sooner; 0 turns it off
    #[arg(long, value_name = "N", default_value_t = LOOKUP, value_parser = up_to_sixteen, allow_negative_numbers = true)]
    pub(crate) lookup: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// The model and the text to continue.
#[derive(Args, Clone, Debug)]
pub(crate) struct PromptFlags {
    /// A name from `thimble list`, or the path of a model file that is there [default: smollm2-135m-instruct]. One word
    /// that is neither, or a folder's or another file's name, is the prompt
    #[arg(value_name = "MODEL")]
    pub(crate) first: Option<String>,
    /// The text to continue, in quotes; `-` reads it from stdin without its last line end, as does a command without one
    /// whose stdin is no terminal
    #[arg(value_name = "PROMPT")]
    pub(crate) second: Option<String>,
    /// What is left, which is too much.
    #[arg(hide = true)]
    pub(crate) rest: Vec<String>,
    /// The same as PROMPT, whatever it looks like and to the last line end
    #[arg(long, short, value_name = "TEXT|-", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
}

/// `thimble run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunFlags {
    #[command(flatten)]
    pub(crate) prompt: PromptFlags,
    /// Generate N tokens, going on past the model's end-of-text token (with --chat it stops there)
    #[arg(long, value_name = "N", conflicts_with = "max_tokens", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) tokens: Option<usize>,
    /// Generate at most N tokens and stop at the model's end-of-text token [default: 256]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) max_tokens: Option<usize>,
    /// Stop before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// The prompt is one message to a chat model: apply its template
    #[arg(long)]
    pub(crate) chat: bool,
    /// With --chat: instructions that stand before the message
    #[arg(long, value_name = "TEXT", requires = "chat", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Read special tokens such as <|im_start|> in the prompt as plain text
    #[arg(long)]
    pub(crate) escape: bool,
    /// One JSON object with ids, text and statistics instead of the text
    #[arg(long)]
    pub(crate) json: bool,
    /// Propose up to N tokens at a time from earlier text that repeats itself: the same output, sooner; 0 turns it off
    #[arg(long, value_name = "N", default_value_t = LOOKUP, value_parser = up_to_sixteen, allow_negative_numbers = true)]
    pub(crate) lookup: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// `thimble pull`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PullFlags {
    /// A name from `thimble list`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Encoding of the weights: keep, f32, f16, bf16, q8, q6, q5, q4, q4even, q4min, q3 [default: q8, or keep for a GGUF source].
    /// Replaces a file of the same name in another encoding, as one is kept for each name
    #[arg(long, value_name = "ENCODING")]
    pub(crate) quant: Option<String>,
    /// Fetch and convert again although it is there; only weights that match their checksum are not downloaded twice
    #[arg(long)]
    pub(crate) force: bool,
}

/// `thimble list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListFlags {
    /// A JSON array instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thimble tokens`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TokensFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// Ids on stdin (separated by white space or commas, or a JSON array) to text on stdout
    #[arg(long)]
    pub(crate) decode: bool,
    /// Read special tokens such as <|im_start|> as plain text
    #[arg(long, conflicts_with = "decode")]
    pub(crate) escape: bool,
    /// One JSON object on stdout: {"count": N, "ids": [...]}, or {"text": "..."} with --decode
    #[arg(long)]
    pub(crate) json: bool,
}

/// `thimble score`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScoreFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// JSON Lines, each an object with "context" and "continuation"; `-` reads stdin
    #[arg(long, value_name = "F.jsonl")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// `thimble perplexity`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PerplexityFlags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// The text; `-` reads stdin
    #[arg(long, value_name = "F")]
    pub(crate) input: PathBuf,
    /// Tokens in a window [default: 1024, or the context where it is shorter]
    #[arg(long, value_name = "W", value_parser = at_least_two, allow_negative_numbers = true)]
    pub(crate) window: Option<usize>,
    /// Only the first N windows
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) windows: Option<usize>,
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// `thimble convert`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConvertFlags {
    /// A Hugging Face folder (config.json, tokenizer.json, *.safetensors), a .gguf or a .thimble file, or a name from
    /// `thimble list`: what is there under this path comes first
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) target: convert::TargetFlags,
    #[command(flatten)]
    pub(crate) recipe: RecipeFlags,
    #[command(flatten)]
    pub(crate) report: crate::report::ReportFlags,
}

/// `thimble inspect`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InspectFlags {
    /// A .thimble file, or a name from `thimble list` that is on this machine
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineFlags,
}

/// `thimble verify`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyFlags {
    /// A .thimble file, or a name from `thimble list` that is on this machine
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
}

fn at_least(text: &str, least: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n: &usize| n >= least);
    number.ok_or_else(|| format!("expected a whole number of at least {least}"))
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(text, 1)
}

pub(crate) fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(text, 2)
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

fn up_to_sixteen(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n: &usize| n <= 16);
    number.ok_or_else(|| "expected a whole number from 0 to 16".to_owned())
}

fn number(text: &str, fits: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|&x: &f32| x.is_finite() && fits(x));
    number.ok_or_else(|| format!("expected {expected}"))
}

fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a number")
}

fn non_negative(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "a number of at least 0")
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

fn fraction(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let (id, bias) = text.split_once('=').ok_or("expected ID=BIAS, for example 198=-5")?;
    let id = id.parse().map_err(|_| "expected a token id before the =".to_string())?;
    Ok((id, finite(bias)?))
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;

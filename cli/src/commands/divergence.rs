//! `thimble divergence`: how far a model's predictions on a text are from a reference's.

use crate::failure::Failure;
use crate::flags::{Kv, ModelFlags, at_least_one, at_least_two};
use crate::model::Location;
use crate::scratch::Scratch;
use crate::workspace::{self, Mapped};
use crate::{input, progress, terminal};
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use thimble_eval::divergence::{Divergence, Pair, divergence};
use thimble_host::{BackendKind, InferenceSettings, KernelKind};
use thimble_runtime::Token;
use thimble_runtime::tokenizer::Specials;

/// Tokens in a window, where the context has room for as many.
const WINDOW: usize = 512;

/// `thimble divergence`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// What the model should predict: a .thimble file, a Hugging Face folder, a GGUF file or a name from `thimble list`
    /// (MODEL may be any of them too; folders and GGUF files become temporary files). It runs with f32 activations
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) against: String,
    /// The text; `-` reads stdin
    #[arg(long, value_name = "TEXT")]
    pub(crate) input: PathBuf,
    /// Tokens in a window; every one but the first is compared [default: 512, or the context where it is shorter]
    #[arg(long, value_name = "W", value_parser = at_least_two, allow_negative_numbers = true)]
    pub(crate) window: Option<usize>,
    /// Only the first N windows
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) windows: Option<usize>,
    /// The model too runs with f32 activations: what remains is the cost of its weights
    #[arg(long)]
    pub(crate) exact: bool,
    /// Threads of both together; each has one at least [default: one for each core that this process may use]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Instruction set of the kernels [default: the best that this CPU has; also THIMBLE_KERNELS]
    #[arg(long, value_name = "NAME")]
    pub(crate) kernels: Option<String>,
    /// How the model keeps keys and values
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kv: Option<Kv>,
    /// Processors of the model: cpu, gpu, gpu+cpu, cpu+gpu or auto, as for `thimble run` [default: cpu; also
    /// THIMBLE_BACKEND]. The reference runs on the CPU
    #[cfg_attr(not(feature = "gpu"), doc = "(those with a GPU are not in this program: feature `gpu`)")]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<BackendKind>,
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// Two models and a text.
pub(crate) struct Job {
    model: Location,
    reference: Location,
    kernels: Option<KernelKind>,
    flags: Flags,
}

#[derive(Serialize)]
struct Output {
    /// Of the whole text.
    tokens: usize,
    windows: usize,
    window: usize,
    /// Whether the model too ran with f32 activations.
    exact: bool,
    #[serde(flatten)]
    divergence: Divergence,
}

impl Job {
    /// Names both models.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let kernels = flags.kernels.as_deref().map(str::parse).transpose();
        Ok(Job {
            model: match &flags.model.model {
                Some(model) => Location::source(model.as_ref())?,
                None => Location::resolve(None)?,
            },
            reference: Location::source(flags.against.as_ref())?,
            kernels: kernels.map_err(|error| Failure::Usage(format!("--kernels: {error}")))?,
            flags,
        })
    }

    /// Windows back to back, each alone, comparing at every token but the first of each.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let flags = &self.flags;
        let text = input::file(&flags.input)?;
        let mut scratch = Scratch::default();
        let model = scratch.open(&self.model)?;
        let reference = scratch.open(&self.reference)?;
        let pair = Pair { model: model.file()?, reference: reference.file()? };
        let context = pair.model.config().context.min(pair.reference.config().context);
        let window = flags.window.unwrap_or(WINDOW.min(context));
        if window > context {
            return Err(Failure::Usage(format!("--window {window} is longer than the context of {context}")));
        }
        let (tokens, unlike) = self.tokens(&model, &reference, &text)?;
        let most = flags.windows.unwrap_or(usize::MAX);
        let windows: Vec<&[Token]> = tokens.chunks_exact(window).take(most).collect();
        if windows.is_empty() {
            return Err(workspace::no_window(tokens.len(), window));
        }
        let settings = InferenceSettings {
            threads: flags.threads,
            kernels: self.kernels,
            kv: flags.kv.map(Kv::kind),
            exact: flags.exact,
            backend: flags.backend,
            ..InferenceSettings::default()
        };
        let settings = workspace::decided(&model, &settings)?;
        let bar = progress::steps("windows", windows.len() as u64);
        let found = divergence(pair, &windows, &settings, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let found = found.map_err(workspace::engine)?;
        if let Some(at) = unlike {
            terminal::note(&format!(
                "note: the model would cut the text into other tokens from token {at} on; both got the reference's"
            ));
        }
        let output = Output {
            tokens: tokens.len(),
            windows: windows.len(),
            window,
            exact: flags.exact,
            divergence: found,
        };
        if flags.json {
            serde_json::to_writer(&mut *stdout, &output).map_err(std::io::Error::from)?;
            return Ok(writeln!(stdout)?);
        }
        output.write(stdout)
    }

    /// The text's ids in the reference, and where the model would cut it otherwise (digits, in a GGUF file beside a Hugging
    /// Face folder).
    fn tokens(
        &self,
        model: &Mapped,
        reference: &Mapped,
        text: &str,
    ) -> Result<(Vec<Token>, Option<usize>), Failure> {
        let ids = |mapped: &Mapped| workspace::encode(&mapped.file()?.tokenizer(), text, Specials::Parse);
        let (own, tokens) = (ids(model)?, ids(reference)?);
        let unlike = own.iter().zip(&tokens).position(|(a, b)| a != b);
        Ok((tokens, unlike))
    }
}

impl Output {
    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Output { divergence: found, windows, window, tokens, .. } = self;
        let kl = &found.kl;
        writeln!(out, "KL divergence {:.6} nats, standard error {:.6}", kl.mean, kl.standard_error)?;
        writeln!(
            out,
            "  median {:.6}, 90th percentile {:.6}, 99th {:.6}, maximum {:.6}",
            kl.median, kl.percentile_90, kl.percentile_99, kl.maximum
        )?;
        writeln!(out, "same most probable token {:.2}%", 100.0 * found.top_1_agreement)?;
        writeln!(
            out,
            "perplexity {:.4}, the reference's {:.4}",
            found.perplexity, found.reference_perplexity
        )?;
        writeln!(
            out,
            "log-probability of the text's tokens: mean absolute difference {:.6} nats",
            found.log_probability_difference
        )?;
        let positions = found.positions;
        Ok(writeln!(
            out,
            "{positions} positions: all but the first of {windows} windows of {window}, each alone, out of {tokens} tokens"
        )?)
    }
}

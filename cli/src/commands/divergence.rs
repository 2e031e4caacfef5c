//! `thimble divergence`: how far a model's predictions on a text are from a reference's.

use crate::adapters::Adapters;
use crate::failure::Failure;
use crate::flags::machine::ComputeFlags;
use crate::flags::numbers::{at_least_one, at_least_two};
use crate::model::{Location, ModelFlags};
use crate::temporary_models::TemporaryModels;
use crate::workspace::{self, Mapped};
use crate::{input, json, progress, terminal, windows};
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use thimble_eval::divergence::{Divergence, Pair, divergence};
use thimble_host::InferenceSettings;
use thimble_runtime::Token;
use thimble_runtime::tokenizer::Specials;

/// Tokens per window, if the context is long enough.
const WINDOW: usize = 512;

/// `thimble divergence`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// Reference model to compare with: a .thimble file, a Hugging Face folder, a GGUF file or a name from `thimble list`
    /// (MODEL may be any of them too; folders and GGUF files are converted to temporary files). The reference always runs
    /// on the CPU with f32 activations
    #[arg(long, value_name = "REFERENCE")]
    against: String,
    /// The text; `-` reads stdin
    #[arg(long, value_name = "TEXT")]
    input: PathBuf,
    /// Tokens per window; all but the first are compared [default: 512, or the context if it is shorter]
    #[arg(long, value_name = "W", value_parser = at_least_two, allow_negative_numbers = true)]
    window: Option<usize>,
    /// Use only the first N windows
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    windows: Option<usize>,
    /// Threads of both models together; each has at least one [default: one per core available to this process]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeFlags,
}

/// Two models and a text.
pub(crate) struct Job {
    model: Location,
    reference: Location,
    flags: Flags,
}

#[derive(Serialize)]
struct Output {
    /// In the whole text.
    tokens: usize,
    windows: usize,
    window: usize,
    /// Whether the model ran with f32 activations, as the reference does.
    exact: bool,
    #[serde(flatten)]
    divergence: Divergence,
}

impl Job {
    /// Locates both models.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job {
            model: match &flags.model.model {
                Some(model) => Location::source(model.as_ref())?,
                None => Location::resolve(None)?,
            },
            reference: Location::source(flags.against.as_ref())?,
            flags,
        })
    }

    /// Compares both models on consecutive windows, each alone, at every token but its first.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let flags = &self.flags;
        let text = input::file(&flags.input)?;
        let mut temporary = TemporaryModels::default();
        let model = temporary.open(&self.model)?;
        let reference = temporary.open(&self.reference)?;
        let adapters = Adapters::open(&flags.compute.adapters, &model.file()?)?;
        let weighted = adapters.weighted()?;
        let pair = Pair { model: model.file()?, adapters: &weighted, reference: reference.file()? };
        let context = pair.model.config().context.min(pair.reference.config().context);
        let window = windows::length(flags.window, WINDOW, context)?;
        let (tokens, differs_at) = self.tokens(&model, &reference, &text)?;
        let windows = windows::cut(&tokens, window, flags.windows)?;
        let settings = InferenceSettings { threads: flags.threads, ..flags.compute.settings() };
        let settings = model.choose_backend(&settings)?;
        let bar = progress::steps("windows", windows.len() as u64);
        let found = divergence(pair, &windows, &settings, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let found = found.map_err(Failure::other)?;
        if let Some(at) = differs_at {
            terminal::note(&format!(
                "note: the model's tokenizer splits the text differently from token {at} on; both used the reference's tokens"
            ));
        }
        let output = Output {
            tokens: tokens.len(),
            windows: windows.len(),
            window,
            exact: flags.compute.exact,
            divergence: found,
        };
        if flags.json {
            return json::write(stdout, &output);
        }
        output.write(stdout)
    }

    /// The text's ids in the reference, and where the model's first differ (digits do between a GGUF file and a Hugging Face
    /// folder).
    fn tokens(
        &self,
        model: &Mapped,
        reference: &Mapped,
        text: &str,
    ) -> Result<(Vec<Token>, Option<usize>), Failure> {
        let ids = |mapped: &Mapped| workspace::encode_text(&mapped.file()?, text, Specials::Parse);
        let (own, tokens) = (ids(model)?, ids(reference)?);
        let differs_at = own.iter().zip(&tokens).position(|(a, b)| a != b);
        Ok((tokens, differs_at))
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

//! `thimble perplexity`: how well a model predicts a text.

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::MachineFlags;
use crate::flags::numbers::{at_least_one, at_least_two};
use crate::model::{Location, ModelFlags};
use crate::workspace::{self, Mapped, Workspace};
use crate::{input, json, progress, windows};
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use thimble_host::InferenceSettings;
use thimble_runtime::session::Scored;
use thimble_runtime::tokenizer::Specials;

/// Tokens per window, if the context is long enough.
const WINDOW: usize = 1024;
/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// `thimble perplexity`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// The text; `-` reads stdin
    #[arg(long, value_name = "F")]
    input: PathBuf,
    /// Tokens per window [default: 1024, or the context if it is shorter]
    #[arg(long, value_name = "W", value_parser = at_least_two, allow_negative_numbers = true)]
    window: Option<usize>,
    /// Use only the first N windows
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    windows: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Which model, on which text.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

#[derive(Serialize)]
struct Output {
    /// In the whole text.
    tokens: usize,
    windows: usize,
    window: usize,
    nll_per_token: f64,
    perplexity: f64,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: flags.model.location()?, flags })
    }

    /// Evaluates consecutive windows, each alone, and predicts all of its tokens but the first.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let flags = &self.flags;
        let text = input::file(&flags.input)?;
        let mapped = Mapped::open(&self.location.fetch(Notes::unless(self.flags.json))?)?;
        let file = mapped.file()?;
        let most = file.config().context;
        let context = flags.machine.context.map_or(most, |context| context.min(most));
        let window = windows::length(flags.window, WINDOW, context)?;
        // The first token of a window is not predicted.
        if window < 2 {
            return Err(Failure::Usage(format!(
                "--context {context} is too short to predict anything: use 2 or more"
            )));
        }
        let adapters = Adapters::open(&flags.machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(window),
            logit_rows: Some(ROWS),
            ..InferenceSettings::default()
        };
        let plan = mapped.plan(&flags.machine.settings(needed))?;
        let tokens = workspace::encode_text(&file, &text, Specials::Parse)?;
        let windows = windows::cut(&tokens, window, flags.windows)?;
        let mut workspace = Workspace::new(&plan)?;
        let mut generator = workspace.generator(&file, &plan, &adapters)?;
        let bar = progress::steps("windows", windows.len() as u64);
        let mut sum = 0.0;
        for window in &windows {
            generator.rewind(0).map_err(Failure::other)?;
            let mut each = |scored: Scored| sum -= scored.log_probability;
            generator.score(window, 1, &mut each).map_err(Failure::other)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let (tokens, windows) = (tokens.len(), windows.len());
        let nll_per_token = sum / (windows * (window - 1)) as f64;
        let perplexity = nll_per_token.exp();
        if flags.json {
            return json::write(stdout, &Output { tokens, windows, window, nll_per_token, perplexity });
        }
        writeln!(
            stdout,
            "perplexity {perplexity:.4} (negative log-likelihood {nll_per_token:.6} per token)"
        )?;
        Ok(writeln!(stdout, "{windows} windows of {window}, out of {tokens} tokens")?)
    }
}

//! `thimble perplexity`: how well a model predicts a text.

use crate::failure::Failure;
use crate::flags::{MachineFlags, PerplexityFlags};
use crate::model::Location;
use crate::workspace::{self, Mapped, Need, Workspace};
use crate::{input, progress};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use thimble_runtime::session::Scored;
use thimble_runtime::tokenizer::Specials;

/// Tokens in a window, where the context has room for as many.
const WINDOW: usize = 1024;
/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// Which text, in which windows.
pub(crate) struct Job {
    location: Location,
    input: PathBuf,
    window: Option<usize>,
    windows: Option<usize>,
    json: bool,
    machine: MachineFlags,
}

#[derive(Serialize)]
struct Output {
    /// Of the whole text.
    tokens: usize,
    windows: usize,
    window: usize,
    nll_per_token: f64,
    perplexity: f64,
}

impl Job {
    /// Names the model.
    pub(crate) fn resolve(flags: PerplexityFlags) -> Result<Job, Failure> {
        Ok(Job {
            location: Location::resolve(flags.model.model.as_deref())?,
            input: flags.input,
            window: flags.window,
            windows: flags.windows,
            json: flags.json,
            machine: flags.machine,
        })
    }

    /// Windows back to back, each alone, predicting all of its tokens but the first.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let text = input::file(&self.input)?;
        let mapped = Mapped::open(&self.location.fetch()?)?;
        let file = mapped.file()?;
        let most = file.config().context;
        let context = self.machine.context.map_or(most, |context| context.min(most));
        let window = self.window.unwrap_or(WINDOW.min(context));
        if window > context {
            return Err(Failure::Usage(format!("--window {window} is longer than the context of {context}")));
        }
        // The first token of a window is not predicted.
        if window < 2 {
            return Err(Failure::Usage(format!(
                "expected a context of 2 positions at least, found {context}"
            )));
        }
        let need = Need { context: Some(window), logit_rows: Some(ROWS), ..Need::default() };
        let plan = workspace::chosen(&mapped, &self.machine, need)?;
        let tokens = workspace::encode(&file.tokenizer(), &text, Specials::Parse)?;
        let most = self.windows.unwrap_or(usize::MAX);
        let windows = (tokens.len() / window).min(most);
        if windows == 0 {
            return Err(workspace::no_window(tokens.len(), window));
        }
        let mut bench = Workspace::new(&plan)?;
        let mut generator = bench.generator(&file, &plan)?;
        let bar = progress::steps("windows", windows as u64);
        let mut sum = 0.0;
        for tokens in tokens.chunks_exact(window).take(windows) {
            generator.rewind(0).map_err(workspace::engine)?;
            let mut each = |scored: Scored| sum -= scored.log_probability;
            generator.score(tokens, 1, &mut each).map_err(workspace::engine)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let nll_per_token = sum / (windows * (window - 1)) as f64;
        let output =
            Output { tokens: tokens.len(), windows, window, nll_per_token, perplexity: nll_per_token.exp() };
        if self.json {
            serde_json::to_writer(&mut *stdout, &output).map_err(std::io::Error::from)?;
            return Ok(writeln!(stdout)?);
        }
        let Output { perplexity, window, tokens, .. } = output;
        writeln!(
            stdout,
            "perplexity {perplexity:.4} (negative log-likelihood {nll_per_token:.6} per token)"
        )?;
        Ok(writeln!(stdout, "{windows} windows of {window}, out of {tokens} tokens")?)
    }
}

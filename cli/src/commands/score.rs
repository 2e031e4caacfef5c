//! `thimble score`: log-likelihoods of continuations, as lm-evaluation-harness defines them.

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::MachineFlags;
use crate::model::{Location, ModelFlags};
use crate::workspace::{Mapped, Workspace};
use crate::{input, json, progress};
use clap::Args;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::PathBuf;
use thimble_eval::request::Request;
use thimble_host::{Generator, InferenceSettings};

/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// `thimble score`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// JSON Lines, each an object with "context" and "continuation"; `-` reads stdin
    #[arg(long, value_name = "F.jsonl")]
    input: PathBuf,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Which model on which lines.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        Ok(Job { location: flags.model.location()?, flags })
    }

    /// Writes each line back with its results.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let text = input::file(&self.flags.input)?;
        let mapped = Mapped::open(&self.location.fetch(Notes::Hidden)?)?;
        let file = mapped.file()?;
        let adapters = Adapters::open(&self.flags.machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(file.config().context),
            logit_rows: Some(ROWS),
            ..InferenceSettings::default()
        };
        let plan = mapped.plan(&self.flags.machine.settings(needed))?;
        let mut workspace = Workspace::new(&plan)?;
        let mut generator = workspace.generator(&file, &plan, &adapters)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let bar = progress::steps("scoring", lines.clone().count() as u64);
        for (index, line) in lines {
            let (input, line_number) = (input::name(&self.flags.input), index + 1);
            let mut object: Map<String, Value> = serde_json::from_str(line)
                .map_err(|error| Failure::json(input.clone(), line_number, "a JSON object", &error))?;
            let wrong =
                |reason| Failure::Line { input: input.clone(), line: line_number, column: None, reason };
            let field = |name: &str| {
                let text = object.get(name).and_then(Value::as_str);
                text.ok_or_else(|| wrong(format!("expected a string in the field {name:?}")))
            };
            let request = Request::new(&file, field("context")?, field("continuation")?);
            let request = request.map_err(Failure::other)?.fit(plan.context());
            let request = request.map_err(|error| wrong(error.to_string()))?;
            let (sum, greedy) = score(&mut generator, &request)?;
            object.insert("loglikelihood".to_string(), sum.into());
            object.insert("tokens".to_string(), request.continuation_len().into());
            object.insert("greedy".to_string(), greedy.into());
            json::write(stdout, &object)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Sum of the continuation's log-probabilities, and whether each of its tokens was the likeliest.
fn score(generator: &mut Generator<'_>, request: &Request) -> Result<(f64, bool), Failure> {
    let Request { tokens, from } = request;
    if *from == tokens.len() {
        return Ok((0.0, true));
    }
    // Consecutive lines often share their context.
    let reused = generator.reuse(&tokens[..*from]);
    let (mut sum, mut greedy) = (0.0, true);
    let mut each = |scored: thimble_runtime::session::Scored| {
        sum += scored.log_probability;
        greedy &= scored.greedy;
    };
    generator.score(&tokens[reused..], from - reused, &mut each).map_err(Failure::other)?;
    Ok((sum, greedy))
}

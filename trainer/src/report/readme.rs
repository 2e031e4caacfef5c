//! `README.md` of a run folder: what the run is, how to resume it, and what each file is.

use super::{metrics, page, tensorboard};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::recipe::{Length, ModelShape, ObjectiveKeys, Stage, TrainingRecipe};
use crate::shell;
use crate::units::grouped;
use std::fmt::Write;
use std::path::Path;

const FILE_NAME: &str = "README.md";
/// Prefix of the lines that survive a resume.
const START: &str = "- from step ";

/// The content of a run's README.
#[derive(Clone, Copy, Debug)]
pub struct RunSummary<'a> {
    /// The resolved recipe.
    pub recipe: &'a TrainingRecipe,
    /// Numbers of the model without adapters, a tied head counted once.
    pub parameters: u64,
    /// Numbers that are trained: of the model, or of its adapters.
    pub trained: u64,
    /// Optimizer steps of all stages.
    pub total_steps: u64,
    /// The run folder, as commands name it.
    pub run: &'a Path,
    /// The command that resumes the run.
    pub resume: &'a str,
    /// Files and folders of the run beyond those of [`crate::report`], each with what it is.
    pub files: &'a [(&'a str, &'a str)],
}

/// One start of the program in a run folder.
#[derive(Clone, Copy, Debug)]
pub struct RunStart<'a> {
    /// Steps finished before it; 0 for a new run.
    pub step: u64,
    /// The device, for display.
    pub device: &'a str,
    /// Threads that compute.
    pub threads: usize,
}

/// Writes `run`/README.md. Keeps the lines of earlier starts, unless `start` is that of a new run.
///
/// # Errors
/// [`Error::File`] when the folder cannot be read or written to.
pub fn write(run: &Path, about: &RunSummary, start: &RunStart) -> Result<()> {
    let path = run.join(FILE_NAME);
    let before = match std::fs::read(&path) {
        Ok(bytes) if start.step > 0 => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file(&path, "read")(error));
        }
        _ => String::new(),
    };
    let mut starts: Vec<String> =
        before.lines().filter(|line| line.starts_with(START)).map(String::from).collect();
    starts.push(format!(
        "{START}{}: thimble-train {}, {}, {}",
        start.step,
        env!("CARGO_PKG_VERSION"),
        start.device,
        counted(start.threads as u64, "thread"),
    ));
    write_atomically(&path, page(about, &starts).as_bytes())
}

fn page(about: &RunSummary, starts: &[String]) -> String {
    let recipe = about.recipe;
    let drawn = |name: &&String| recipe.stages.iter().any(|stage| stage.share(name) > 0.0);
    let sets = recipe.data.sets.keys().filter(drawn).map(|name| format!("`{name}`"));
    let files = recipe.data.files.iter().map(|path| format!("`{}`", path.display()));
    let data: Vec<String> = sets.chain(files).collect();
    let does = match &recipe.objective {
        ObjectiveKeys::Pretrain => "pretrains",
        ObjectiveKeys::Sft(_) | ObjectiveKeys::Dpo(_) => "tunes",
        ObjectiveKeys::Distill(_) => "trains the encodings of",
    };
    let source = recipe.init_from.as_ref().map(|source| format!(", from `{source}`")).unwrap_or_default();
    let mut stages = String::new();
    for stage in &recipe.stages {
        // Writing to a String cannot fail.
        let _ = writeln!(stages, "- **{}**: {}", stage.name, stage_line(stage));
    }
    let own = [
        (FILE_NAME, "this page; written anew at every start"),
        (metrics::FILE_NAME, "every start, step, validation and sample text, one JSON object per line"),
        (
            page::FILE_NAME,
            "a report, written at the end; `thimble-train report` and this folder write it anew",
        ),
        (tensorboard::FOLDER_NAME, "the same for TensorBoard: `tensorboard --logdir` and this folder"),
    ];
    let mut files = String::new();
    for (name, what) in about.files.iter().chain(&own) {
        let _ = writeln!(files, "| `{name}` | {what} |");
    }
    let trained = match &recipe.adapter {
        Some(adapter) => {
            let trained = grouped(about.trained);
            format!(
                " It trains {trained} numbers of adapters of rank {}, and none of the model's own.",
                adapter.rank
            )
        }
        None if about.trained < about.parameters => {
            format!(" It trains {} of them; the others are frozen.", grouped(about.trained))
        }
        None => String::new(),
    };
    let mut commands = String::new();
    for (what, command) in self::commands(about) {
        let _ = writeln!(commands, "| {what} | `{command}` |");
    }
    format!(
        "# {name}\n\n\
         A run of `thimble-train`: it {does} a Llama of {parameters} parameters ({shape}){source} on {data}, in {steps}.\
         {trained}\n\n\
         {stages}\n\
         ## What to do with it\n\n\
         | | |\n|---|---|\n\
         {commands}\n\
         ## What lies here\n\n\
         | | |\n|---|---|\n\
         {files}\n\
         ## What it ran on\n\n\
         {starts}\n",
        name = recipe.name,
        parameters = grouped(about.parameters),
        shape = shape_line(&recipe.model),
        data = data.join(", "),
        steps = counted(about.total_steps, "step"),
        starts = starts.join("\n"),
    )
}

/// What to do with a run, each with its command. None writes where another, or the run, does.
fn commands(about: &RunSummary) -> Vec<(&'static str, String)> {
    let run = shell::quote(about.run);
    let inside = |name: &str| shell::quote(&about.run.join(name));
    let mut commands = vec![("resume where it stopped", about.resume.to_owned())];
    match about.recipe.objective {
        // Their end exports the model.
        ObjectiveKeys::Sft(_) | ObjectiveKeys::Dpo(_) => {
            commands.push((
                "talk to the tuned model, once it is there",
                format!("thimble chat {}", inside("export")),
            ));
            let newest = format!("thimble-train export {run} --checkpoint last -o {}", inside("export-last"));
            commands.push(("make a Hugging Face folder of the newest checkpoint", newest));
        }
        ObjectiveKeys::Pretrain | ObjectiveKeys::Distill(_) => {
            let export = format!("thimble-train export {run} -o {}", inside("export"));
            commands.push(("make a Hugging Face folder of it", export));
        }
    }
    if about.recipe.adapter.is_some() {
        let adapter = format!("thimble-train export {run} --adapter -o {}", inside("adapter"));
        commands.push(("write the adapter alone, as PEFT reads it", adapter));
    }
    let plot = format!("thimble-train plot {run} -o {}", inside("plot.svg"));
    commands.push(("draw loss, learning rate and gradient norm", plot));
    commands
}

/// `32 layers, hidden 384, 6 heads over 2 KV heads, FFN 1,024, vocabulary 49,152 tied`.
fn shape_line(model: &ModelShape) -> String {
    format!(
        "{}, hidden {}, {} heads over {} KV heads, FFN {}, vocabulary {}{}",
        counted(model.layers as u64, "layer"),
        grouped(model.hidden as u64),
        model.heads,
        model.kv_heads,
        grouped(model.ffn as u64),
        grouped(model.vocab as u64),
        if model.tied { " tied" } else { "" },
    )
}

/// Length, context, and the mixture with its shares in percent.
fn stage_line(stage: &Stage) -> String {
    let length = match stage.length {
        Length::Steps(steps) => counted(steps, "step"),
        Length::Tokens(tokens) => counted(tokens, "token"),
        Length::Epochs(1.0) => "1 epoch".into(),
        Length::Epochs(epochs) => format!("{epochs} epochs"),
    };
    let total: f64 = stage.mixture.values().sum();
    let mixture: Vec<String> =
        stage.mixture.iter().map(|(set, share)| format!("{:.1}% `{set}`", share / total * 100.0)).collect();
    let from = if mixture.is_empty() { String::new() } else { format!(", from {}", mixture.join(" and ")) };
    format!(
        "{length} of {} tokens at context {}, peak learning rate {:e}{from}",
        grouped(stage.tokens_per_step()),
        grouped(stage.context as u64),
        stage.schedule.peak,
    )
}

fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

//! `thimble eval`: standard benchmarks.

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::MachineFlags;
use crate::flags::numbers::at_least_one;
use crate::home::Home;
use crate::interrupt;
use crate::model::{Location, ModelFlags};
use crate::workspace::Mapped;
use crate::{json, terminal};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_eval::{
    DataSource, Ended, EvalError, EvalProgress, Evaluated, Evaluation, HubDatasets, Selection, Task,
};
use thimble_host::InferenceSettings;

/// `thimble eval`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// `all`, or names separated by commas: arc_easy, arc_challenge, boolq, hellaswag, piqa, sciq, winogrande,
    /// truthfulqa, openbookqa, mmlu, gsm8k, lambada_openai
    #[arg(long, value_name = "NAMES", default_value = "all")]
    tasks: String,
    /// A folder with TASK/test.jsonl or TASK/validation.jsonl for each task [default: THIMBLE_DATA, or the hub's data
    /// sets, kept in THIMBLE_HOME]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Skip the first K items of each task
    #[arg(long, value_name = "K", default_value = "0", allow_negative_numbers = true)]
    offset: usize,
    /// Use at most N items of each task
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    limit: Option<usize>,
    /// Write the results to this file; an interrupted evaluation resumes from it
    #[arg(long, short, value_name = "OUT.json")]
    output: Option<PathBuf>,
    /// Write a line for each item: the question, the log-likelihoods, the decision
    #[arg(long, value_name = "OUT.jsonl")]
    samples: Option<PathBuf>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Which model on which items.
pub(crate) struct Job {
    location: Location,
    tasks: Vec<Task>,
    source: DataSource,
    flags: Flags,
}

/// Environment variable with the folder of data if no flag names one.
const DATA: &str = "THIMBLE_DATA";

impl Job {
    /// Locates model, tasks and data.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let named = std::env::var_os(DATA).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let source = match flags.data.clone().or(named) {
            Some(folder) => DataSource::Folder(folder),
            None => DataSource::Hub(HubDatasets { cache: Home::find()?.data(), endpoint: None }),
        };
        Ok(Job {
            location: flags.model.location()?,
            tasks: Task::parse_list(&flags.tasks).map_err(|error| Failure::Usage(error.to_string()))?,
            source,
            flags,
        })
    }

    /// Evaluates: the table to stdout, progress to stderr.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch(Notes::unless(self.flags.json))?)?;
        let settings = self.flags.machine.settings(InferenceSettings::default());
        let adapters = Adapters::open(&self.flags.machine.compute.adapters, &mapped.file()?)?;
        let weighted = adapters.weighted()?;
        let evaluation = Evaluation {
            adapters: &weighted,
            model: mapped.model(),
            name: self.location.name(),
            settings: mapped.choose_backend(&settings)?,
            tasks: self.tasks.clone(),
            source: self.source.clone(),
            selection: Selection { offset: self.flags.offset, limit: self.flags.limit },
            result: self.flags.output.clone(),
            samples: self.flags.samples.clone(),
        };
        let stop = stop_flag()?;
        let mut bar = EvalProgress::new(terminal::note);
        let ended = evaluation.run(&stop, &mut |event| bar.show(event));
        bar.finish();
        match ended.map_err(failure)? {
            Ended::Complete(evaluated) => self.report(&evaluated, stdout),
            Ended::Stopped(stopped) => Err(Failure::Other(stopped.to_string())),
        }
    }

    fn report(&self, evaluated: &Evaluated, stdout: &mut dyn Write) -> Result<(), Failure> {
        // If one of the two fails, the other is still done: neither a full disk nor a closed pipe may lose an hour's work.
        let shown = self.show(evaluated, stdout);
        evaluated.finish().map_err(failure)?;
        shown?;
        evaluated.results.without_data().map_or(Ok(()), |missing| Err(Failure::Other(missing)))
    }

    fn show(&self, evaluated: &Evaluated, stdout: &mut dyn Write) -> Result<(), Failure> {
        let results = &evaluated.results;
        match self.flags.json {
            true => json::write(stdout, results)?,
            false => write!(stdout, "{results}")?,
        }
        stdout.flush()?;
        terminal::note(&results.seconds.to_string());
        Ok(())
    }
}

fn failure(error: EvalError) -> Failure {
    match error {
        EvalError::UnknownTask { .. } | EvalError::NoTasks => Failure::Usage(error.to_string()),
        other => Failure::other(other),
    }
}

/// A flag that Ctrl-C sets. A second Ctrl-C ends the process at once, which loses no finished item either.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let pressed = Arc::clone(&stop);
    interrupt::on_ctrl_c(move || {
        if pressed.swap(true, Ordering::SeqCst) {
            std::process::exit(interrupt::EXIT_CODE);
        }
    })?;
    Ok(stop)
}

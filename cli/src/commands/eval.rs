//! `thimble eval`: the benchmarks of the published table.

use crate::failure::Failure;
use crate::flags::{EvalFlags, MachineFlags};
use crate::home::Home;
use crate::model::Location;
use crate::terminal;
use crate::workspace::{self, Mapped, Need};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thimble_eval::{
    DataSource, Ended, EvalError, Evaluated, Evaluation, HubDatasets, Selection, Task, Watch,
};

/// Which model on which items.
pub(crate) struct Job {
    location: Location,
    tasks: Vec<Task>,
    source: DataSource,
    selection: Selection,
    output: Option<PathBuf>,
    samples: Option<PathBuf>,
    json: bool,
    machine: MachineFlags,
}

/// The folder of data, where no flag names one.
const DATA: &str = "THIMBLE_DATA";

impl Job {
    /// Names model, tasks and data.
    pub(crate) fn resolve(flags: EvalFlags) -> Result<Job, Failure> {
        let named = std::env::var_os(DATA).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let source = match flags.data.or(named) {
            Some(folder) => DataSource::Folder(folder),
            None => DataSource::Hub(HubDatasets { cache: Home::find()?.data(), endpoint: None }),
        };
        Ok(Job {
            location: Location::resolve(flags.model.model.as_deref())?,
            tasks: Task::parse_list(&flags.tasks).map_err(|error| Failure::Usage(error.to_string()))?,
            source,
            selection: Selection { offset: flags.offset, limit: flags.limit },
            output: flags.output,
            samples: flags.samples,
            json: flags.json,
            machine: flags.machine,
        })
    }

    /// Evaluates: the table to stdout, progress to stderr.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch()?)?;
        let settings = workspace::settings(&self.machine, Need::default())?;
        let evaluation = Evaluation {
            model: mapped.model(),
            name: self.location.name(),
            settings: workspace::decided(&mapped, &settings)?,
            tasks: self.tasks.clone(),
            source: self.source.clone(),
            selection: self.selection,
            result: self.output.clone(),
            samples: self.samples.clone(),
        };
        let stop = interrupted()?;
        let mut watch = Watch::new(terminal::note);
        let ended = evaluation.run(&stop, &mut |event| watch.see(event));
        watch.end();
        match ended.map_err(failure)? {
            Ended::Complete(evaluated) => self.report(&evaluated, stdout),
            Ended::Stopped(stopped) => Err(Failure::Engine(stopped.to_string())),
        }
    }

    fn report(&self, evaluated: &Evaluated, stdout: &mut dyn Write) -> Result<(), Failure> {
        // Whatever fails, the other is done: what took an hour is lost neither to a full disk nor to a closed pipe.
        let shown = self.show(evaluated, stdout);
        evaluated.finish().map_err(failure)?;
        shown?;
        evaluated.results.without_data().map_or(Ok(()), |missing| Err(Failure::Engine(missing)))
    }

    fn show(&self, evaluated: &Evaluated, stdout: &mut dyn Write) -> Result<(), Failure> {
        let results = &evaluated.results;
        if self.json {
            serde_json::to_writer(&mut *stdout, results).map_err(std::io::Error::from)?;
            writeln!(stdout)?;
        } else {
            write!(stdout, "{results}")?;
        }
        stdout.flush()?;
        terminal::note(&results.seconds.to_string());
        Ok(())
    }
}

fn failure(error: EvalError) -> Failure {
    match error {
        EvalError::UnknownTask { .. } | EvalError::NoTasks => Failure::Usage(error.to_string()),
        other => workspace::engine(other),
    }
}

/// A flag that Ctrl-C sets; pressed again, it ends the process at once, which loses no finished item either.
fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let pressed = Arc::clone(&stop);
    let installed = ctrlc::set_handler(move || {
        if pressed.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    installed.map_err(|error| Failure::Engine(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(stop)
}

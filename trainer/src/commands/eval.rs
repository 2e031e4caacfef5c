//! `thimble-train eval`.

use std::path::{Path, PathBuf};
use tempfile::TempDir;
use thimble_converter::{ConversionOptions, Quant, convert};
use thimble_eval::{DataSource, Ended, EvalError, EvalProgress, Evaluation, Selection, Task};
use thimble_files::MappedModel;
use thimble_host::InferenceSettings;
use thimble_trainer::checkpoint::{self, CheckpointChoice, CheckpointStore};
use thimble_trainer::error::{Error, Result};
use thimble_trainer::recipe::Precision;

/// Run the benchmarks of `thimble eval` on a checkpoint.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// The run folder, or one of the folders in its checkpoints/
    run: PathBuf,
    /// best, last, or the name of a folder in checkpoints/ [default: the best of the stage that
    /// the run has reached, or last where it was not measured]
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// `all`, or names separated by commas (`thimble eval --help` lists them)
    #[arg(long, value_name = "NAMES", default_value = "all")]
    tasks: String,
    /// A folder with TASK/test.jsonl or TASK/validation.jsonl for each task [default: THIMBLE_DATA]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Skip the first K items of each task
    #[arg(long, value_name = "K", default_value = "0")]
    offset: usize,
    /// Take at most N items of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Multiply with 32-bit activations
    #[arg(long)]
    exact: bool,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Write the results to this file; an interrupted evaluation resumes where it stopped
    #[arg(short, long, value_name = "OUT.json")]
    output: Option<PathBuf>,
    /// Write a line for each item
    #[arg(long, value_name = "OUT.jsonl")]
    samples: Option<PathBuf>,
}

impl Flags {
    pub(crate) fn run(self) -> Result<()> {
        let tasks = Task::parse_list(&self.tasks).map_err(|error| Error::Usage(error.to_string()))?;
        let named = std::env::var_os("THIMBLE_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let data = self.data.clone().or(named).ok_or_else(|| {
            let missing =
                "expected a folder with the tasks' data, found none; pass --data FOLDER, or set THIMBLE_DATA";
            Error::Usage(missing.to_string())
        })?;
        let (run, checkpoint) = self.place()?;
        let temporary = tempfile::tempdir().map_err(Error::file(&std::env::temp_dir(), "write"))?;
        let (model, step) = converted(&run, &checkpoint, &temporary)?;
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok());
        let evaluation = Evaluation {
            adapters: &[],
            model: &model,
            name: format!("{} step {step}", run.file_name().unwrap_or_default().display()),
            settings: InferenceSettings {
                exact: self.exact,
                threads: self.threads.map(usize::from),
                ..InferenceSettings::default()
            },
            tasks,
            source: DataSource::Folder(data),
            selection: Selection { offset: self.offset, limit },
            result: self.output.clone(),
            samples: self.samples.clone(),
        };
        let stop = std::sync::Arc::default();
        super::signals::set_on_signals(&stop)?;
        let mut bar = EvalProgress::new(|line| eprintln!("{line}"));
        let ended = evaluation.run(&stop, &mut |event| bar.show(event));
        bar.finish();
        let evaluated = match ended.map_err(failed)? {
            Ended::Complete(evaluated) => evaluated,
            Ended::Stopped(stopped) => return Err(Error::Stopped(stopped.to_string())),
        };
        // Shown before it is written: a full disk does not lose it.
        print!("{}", evaluated.results);
        evaluated.finish().map_err(failed)?;
        eprintln!("{}", evaluated.results.seconds);
        evaluated.results.without_data().map_or(Ok(()), |missing| Err(Error::Invalid(missing)))
    }

    /// The run folder, and the checkpoint in it.
    fn place(&self) -> Result<(PathBuf, PathBuf)> {
        let absolute = std::path::absolute(&self.run).map_err(Error::file(&self.run, "read"))?;
        if let (true, None) = (checkpoint::is_checkpoint(&absolute), &self.checkpoint)
            && let Some(run) = absolute.parent().and_then(Path::parent)
        {
            return Ok((run.to_path_buf(), absolute));
        }
        let store = CheckpointStore::new(&absolute, 1);
        let choice =
            self.checkpoint.as_deref().map_or(CheckpointChoice::BestOfLastStage, CheckpointChoice::Named);
        let path = store.choose(choice)?;
        Ok((absolute, path))
    }
}

fn failed(error: EvalError) -> Error {
    Error::Invalid(error.to_string())
}

/// The checkpoint as a file of the runtime with f32 weights, and its step.
fn converted(run: &Path, checkpoint: &Path, temporary: &TempDir) -> Result<(MappedModel, u64)> {
    let folder = temporary.path().join("checkpoint");
    let (state, _) = super::export::export_checkpoint(run, checkpoint, Precision::F32, &folder)?;
    let file = temporary.path().join("checkpoint.thimble");
    let options = ConversionOptions { quant: Quant::F32, ..ConversionOptions::default() };
    let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
    convert(&folder, &file, &options, &mut |_| ()).map_err(|error| invalid(&error))?;
    let model = MappedModel::read(&file).map_err(|error| invalid(&error))?;
    Ok((model, state.step))
}

//! The files of a run folder that the page shows.

use super::data::DataParts;
use super::evaluation::ResultFile;
use crate::checkpoint::RECIPE;
use crate::error::{Error, Result};
use crate::recipe::TrainingRecipe;
use crate::report::json_lines::read_all;
use crate::report::metrics::{self, MetricsEvent, SampleText, StartRecord, StepMetrics, ValidationPoint};
use crate::report::recovery::{HISTORY, RecipeChange, SKIPPED, SkippedStep};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Counts of the data.
const DATA: &str = "data.json";

/// What happened in a run.
#[derive(Debug, Default)]
pub(super) struct RunHistory {
    pub(super) starts: Vec<StartRecord>,
    pub(super) steps: Vec<StepMetrics>,
    pub(super) validation: Vec<ValidationPoint>,
    pub(super) samples: Vec<SampleText>,
    pub(super) skipped: Vec<SkippedStep>,
    pub(super) changes: Vec<RecipeChange>,
}

impl RunHistory {
    /// The last step that was trained on or skipped; 0 before the first.
    pub(super) fn last_step(&self) -> u64 {
        let trained = self.steps.last().map_or(0, |step| step.step);
        self.skipped.last().map_or(trained, |skipped| trained.max(skipped.step))
    }
}

/// A run folder.
#[derive(Debug)]
pub(super) struct RunFiles {
    pub(super) name: String,
    pub(super) recipe: Option<TrainingRecipe>,
    pub(super) recipe_text: Option<String>,
    pub(super) history: RunHistory,
    pub(super) data: DataParts,
    pub(super) results: Vec<ResultFile>,
    /// Files that cannot be read, each with why.
    pub(super) unreadable: Vec<String>,
}

impl RunFiles {
    /// The held-out measurements that compare with the last one: where the last stages train for a quantized file, these
    /// stages' alone once the first of them has begun.
    pub(super) fn comparable_validation(&self) -> &[ValidationPoint] {
        let quantizes = |step: &&StepMetrics| {
            let mut stages = self.recipe.iter().flat_map(|recipe| &recipe.stages);
            stages.any(|stage| stage.quantize.is_some() && stage.name == step.stage)
        };
        let begins = self.history.steps.iter().find(quantizes).map_or(0, |step| step.step);
        let all = &self.history.validation;
        match &all[all.partition_point(|point| point.step < begins)..] {
            [] => all,
            comparable => comparable,
        }
    }

    /// Reads a run folder. What a run does not have is left out; a file that is damaged is named in `unreadable`.
    ///
    /// # Errors
    /// The folder is not a run's, or its metrics are damaged before the last line.
    pub(super) fn read(run: &Path) -> Result<RunFiles> {
        if !run.is_dir() {
            let found = if run.exists() { "a file" } else { "nothing" };
            return Err(Error::Usage(format!(
                "{}: expected a run folder, found {found}; give the folder that the run writes to (its --run)",
                run.display()
            )));
        }
        let mut unreadable = Vec::new();
        let recipe_text = optional(&run.join(RECIPE), &mut unreadable);
        let recipe = recipe_text.as_deref().and_then(|text| match TrainingRecipe::parse(text, RECIPE, &[]) {
            Ok(recipe) => Some(recipe),
            Err(error) => {
                unreadable.push(format!("{RECIPE}: {error}"));
                None
            }
        });
        let mut history =
            RunHistory { skipped: lines(&run.join(SKIPPED), &mut unreadable), ..RunHistory::default() };
        history.changes = lines(&run.join(HISTORY), &mut unreadable);
        for event in metrics::read_started(run)? {
            match event {
                MetricsEvent::Start(start) => history.starts.push(start),
                MetricsEvent::Step(step) => history.steps.push(step),
                MetricsEvent::Validation(point) => history.validation.push(point),
                MetricsEvent::Sample(sample) => history.samples.push(sample),
                MetricsEvent::Skipped(_) | MetricsEvent::Unknown => {}
            }
        }
        let data = match optional(&run.join(DATA), &mut unreadable).map(|text| DataParts::parse(&text)) {
            Some(Ok(data)) => data,
            Some(Err(error)) => {
                unreadable.push(format!("{DATA}: {error}"));
                DataParts::default()
            }
            None => DataParts::default(),
        };
        let whole = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
        let name =
            whole.file_name().map_or_else(|| run.display().to_string(), |name| name.display().to_string());
        let results = results(run)?;
        Ok(RunFiles { name, recipe, recipe_text, history, data, results, unreadable })
    }

    /// The run's last step, if it is finished.
    pub(super) fn finished_at(&self) -> Option<u64> {
        let total = self.history.starts.last()?.total_steps;
        Some(self.history.last_step()).filter(|step| *step >= total)
    }
}

/// A file's text; none where there is no file.
fn optional(path: &Path, unreadable: &mut Vec<String>) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            unreadable.push(format!("{}: {error}", path.display()));
            None
        }
    }
}

/// The lines of a file; none where there is no file or it is damaged.
fn lines<T: DeserializeOwned>(path: &Path, unreadable: &mut Vec<String>) -> Vec<T> {
    read_all(path)
        .unwrap_or_else(|error| {
            unreadable.push(error.to_string());
            None
        })
        .unwrap_or_default()
}

/// The result files of `thimble eval` in the run folder, those named "before" first.
fn results(run: &Path) -> Result<Vec<ResultFile>> {
    let entries = std::fs::read_dir(run).map_err(Error::file(run, "read"))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    paths.sort_by_key(|path| (!path.to_string_lossy().contains("before"), path.clone()));
    let read = |path: &PathBuf| {
        // Other JSON files lie here too.
        let results = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(ResultFile { name: path.file_stem()?.to_string_lossy().into_owned(), results })
    };
    Ok(paths.iter().filter_map(read).collect())
}

//! The metrics of the runs in a plot.

use crate::error::{Error, Result};
use crate::report::metrics::{self, MetricsEvent};
use std::path::Path;

/// What is drawn of one run.
#[derive(Clone, Debug)]
pub struct RunMetrics {
    pub(super) name: String,
    pub(super) steps: Vec<metrics::StepMetrics>,
    pub(super) validation: Vec<metrics::ValidationPoint>,
}

impl RunMetrics {
    /// A run's events under the name that the legend gives it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when no event is a step.
    pub fn new(name: &str, events: Vec<MetricsEvent>) -> Result<RunMetrics> {
        let mut run = RunMetrics { name: name.into(), steps: Vec::new(), validation: Vec::new() };
        for event in events {
            match event {
                MetricsEvent::Step(step) => run.steps.push(step),
                MetricsEvent::Validation(point) => run.validation.push(point),
                MetricsEvent::Sample(_)
                | MetricsEvent::Skipped(_)
                | MetricsEvent::Start(_)
                | MetricsEvent::Unknown => {}
            }
        }
        if run.steps.is_empty() {
            let file = metrics::FILE_NAME;
            return Err(Error::Invalid(format!(
                "{name}: its {file} holds no step, so there is nothing to draw yet; wait for the first one"
            )));
        }
        Ok(run)
    }
}

/// Reads run folders, each named by its folder, or by the whole path where two folders have the same name.
///
/// # Errors
/// As [`metrics::read`] and [`RunMetrics::new`].
pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<RunMetrics>> {
    let short: Vec<String> = paths.iter().map(|path| folder_name(path.as_ref())).collect();
    let named = paths.iter().zip(&short).map(|(path, name)| {
        let path = path.as_ref();
        let twice = short.iter().filter(|other| *other == name).count() > 1;
        let name = if twice { path.display().to_string() } else { name.clone() };
        RunMetrics::new(&name, metrics::read(path)?)
    });
    named.collect()
}

fn folder_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let folder = if whole.is_file() { whole.parent().unwrap_or(&whole) } else { &whole };
    folder.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

//! A report on a run: one HTML file that needs nothing else, for people who tune a model and want to see what happened.
//!
//! Everything that a run, its data or its model can contain reaches the page through the template's escaping.

mod chart;
mod charts;
mod data;
mod evaluation;
mod run_files;
mod samples;
mod summary;
mod view;
mod warnings;

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::recipe::ObjectiveKeys;
use crate::units::grouped;
use chart::{ChartView, XUnit};
use charts::Charts;
use minijinja::Environment;
use run_files::{RunFiles, RunHistory};
use samples::PromptView;
use serde::Serialize;
use std::path::Path;
use view::{Fact, TableView, counted};

/// The report's name in a run folder.
pub const FILE_NAME: &str = "report.html";

/// The page's content, as `page.html` reads it.
#[derive(Debug, Serialize)]
struct Page {
    name: String,
    lead: String,
    version: &'static str,
    warnings: Vec<String>,
    tiles: Vec<Fact>,
    facts: Vec<Fact>,
    evaluation: Option<TableView>,
    scores: Option<TableView>,
    samples_note: &'static str,
    stops: Option<TableView>,
    prompts: Vec<PromptView>,
    curves_note: String,
    charts: Vec<ChartView>,
    data: Option<TableView>,
    lengths: Vec<ChartView>,
    events: Vec<TableView>,
    recipe: Option<String>,
}

/// Writes the report of the run folder `run`, finished or not, atomically.
///
/// # Errors
/// As [`page`]; [`Error::File`] when `output` cannot be written.
pub fn write(run: &Path, output: &Path) -> Result<()> {
    write_atomically(output, page(run)?.as_bytes())
}

/// The report as HTML.
///
/// # Errors
/// [`Error::Usage`] when `run` is no folder, [`Error::Invalid`] when it has no metrics or they are damaged before the
/// last line, [`Error::File`].
pub fn page(run: &Path) -> Result<String> {
    let page = Page::of(&RunFiles::read(run)?);
    let mut environment = Environment::new();
    let failed = |error: minijinja::Error| Error::Invalid(format!("cannot write the report: {error:#}"));
    environment.add_template("page.css", include_str!("page.css")).map_err(failed)?;
    environment.add_template("page.html", include_str!("page.html")).map_err(failed)?;
    environment
        .get_template("page.html")
        .and_then(|template| template.render(minijinja::value::Serde(&page)))
        .map_err(failed)
}

impl Page {
    fn of(run: &RunFiles) -> Page {
        let history = &run.history;
        let recipe = run.recipe.as_ref();
        let distills = recipe.is_some_and(|recipe| matches!(recipe.objective, ObjectiveKeys::Distill(_)));
        let charts = Charts::new(history, if distills { XUnit::Tokens } else { XUnit::Steps });
        let stops = samples::stop_rates(&history.samples);
        let mut warnings = warnings::warnings(run, &stops);
        warnings.extend(run.data.warnings());
        Page {
            name: run.name.clone(),
            lead: summary::lead(run),
            version: env!("CARGO_PKG_VERSION"),
            warnings,
            tiles: summary::tiles(run),
            facts: summary::facts(run),
            evaluation: evaluation::held_out(run.comparable_validation()),
            scores: evaluation::scores(&run.results),
            samples_note: "The same prompts, seeds and settings at every point.",
            stops: samples::stop_table(&stops),
            prompts: samples::prompts(&history.samples, run.finished_at()),
            curves_note: curves_note(charts.window, distills),
            charts: charts.views(summary::loss_title(recipe)),
            data: run.data.table(),
            lengths: run.data.histograms(),
            events: events(history),
            recipe: run.recipe_text.clone(),
        }
    }
}

fn curves_note(window: usize, distills: bool) -> String {
    let x = if distills { "tokens trained on" } else { "optimizer steps" };
    match window {
        1 => format!("Over {x}."),
        _ => format!("Over {x}; faint: each step, strong: the mean of {}.", counted(window as u64, "step")),
    }
}

/// Skipped steps and changes of the recipe.
fn events(history: &RunHistory) -> Vec<TableView> {
    let skipped = history.skipped.iter().map(|skipped| {
        vec![grouped(skipped.step), skipped.stage.clone(), skipped.reason.clone(), skipped.data.join("; ")]
    });
    let changed = history
        .changes
        .iter()
        .map(|change| vec![grouped(change.step), change.key.clone(), change.from.clone(), change.to.clone()]);
    let skipped = TableView::of("Skipped steps", &["Step", "Stage", "Reason", "Data"], skipped.collect());
    let changed =
        TableView::of("Changes of the recipe", &["After step", "Key", "From", "To"], changed.collect());
    skipped.into_iter().chain(changed).collect()
}

#[cfg(test)]
mod tests;

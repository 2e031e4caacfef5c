//! The report of a curation: one HTML file.

use super::part::{PartMarker, RemovedSample, write_text};
use super::recipe::CorpusRecipe;
use super::stage::StageCount;
use crate::error::{CurateError, Result};
use minijinja::{AutoEscape, Environment};
use serde_json::{Value, json};
use std::path::Path;

const PAGE: &str = include_str!("report.html");
/// Samples of each stage.
const SAMPLES: usize = 10;

/// Writes `report.html` into the output folder.
pub(super) fn write(recipe: &CorpusRecipe, passes: &[Vec<PartMarker>]) -> Result<()> {
    let mut stages = Vec::new();
    let mut samples: Vec<&RemovedSample> = Vec::new();
    let mut clusters = Vec::new();
    for (number, markers) in passes.iter().enumerate() {
        let counts = sum(markers);
        if number > 0
            && let Some(first) = counts.first()
        {
            let file = recipe.output.join(format!("duplicates-{}.json", number - 1));
            clusters.push(json!({ "name": first.name, "largest": read(&file)? }));
        }
        for count in &counts {
            let of_stage = |sample: &&RemovedSample| sample.stage == count.name;
            samples.extend(markers.iter().flat_map(|marker| &marker.samples).filter(of_stage).take(SAMPLES));
        }
        stages.extend(counts);
    }
    let total = |count: fn(&PartMarker) -> u64, pass: Option<&Vec<PartMarker>>| -> u64 {
        pass.into_iter().flatten().map(count).sum()
    };
    let rows: Vec<Value> = stages.iter().map(row).collect();
    let removed_first: u64 =
        passes.first().map_or(0, |markers| sum(markers).iter().map(|stage| stage.removed).sum());
    let first_bad = passes.iter().flatten().find_map(|marker| marker.first_bad.as_ref());
    let wrong =
        |error: minijinja::Error| CurateError::Invalid(format!("the report cannot be written: {error}"));
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.render_str(
        PAGE,
        minijinja::value::Serde(json!({
            "output": recipe.output.display().to_string(),
            "read": total(|marker| marker.documents, passes.first()) + removed_first,
            "bad": total(|marker| marker.bad, passes.first()),
            "kept": total(|marker| marker.documents, passes.last()),
            "kept_bytes": total(|marker| marker.bytes, passes.last()),
            "first_bad": first_bad,
            "stages": rows,
            "clusters": clusters,
            "samples": samples,
            "recipe": toml::to_string(recipe).map_err(|error| CurateError::Invalid(error.to_string()))?,
        })),
    );
    write_text(&recipe.output.join("report.html"), &page.map_err(wrong)?)
}

fn row(stage: &StageCount) -> Value {
    let share = 100.0 * stage.removed as f64 / stage.documents.max(1) as f64;
    json!({
        "name": stage.name, "documents": stage.documents, "removed": stage.removed,
        "removed_bytes": stage.removed_bytes, "share": format!("{share:.2}"),
    })
}

fn sum(markers: &[PartMarker]) -> Vec<StageCount> {
    let mut counts: Vec<StageCount> = Vec::new();
    for marker in markers {
        for (number, stage) in marker.stages.iter().enumerate() {
            match counts.get_mut(number) {
                Some(count) => {
                    count.documents += stage.documents;
                    count.removed += stage.removed;
                    count.removed_bytes += stage.removed_bytes;
                }
                None => counts.push(stage.clone()),
            }
        }
    }
    counts
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(CurateError::file(path, "read"))?;
    serde_json::from_slice(&text)
        .map_err(|error| CurateError::Invalid(format!("{}: {error}", path.display())))
}

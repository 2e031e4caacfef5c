//! What a reader should look at first.

use super::run_files::RunFiles;
use super::samples::StopRate;
use super::view::{counted, percent};
use crate::recipe::ObjectiveKeys;
use crate::report::metrics::{StepMetrics, ValidationPoint};

/// The figure that falls where a model unlearns the answers that it should prefer.
const CHOSEN: &str = "logp_chosen";

/// Sentences, the most serious first. `stops` are the stop rates of the samples.
pub(super) fn warnings(run: &RunFiles, stops: &[StopRate]) -> Vec<String> {
    let history = &run.history;
    let mut found = run.unreadable.clone();
    let objective = run.recipe.as_ref().map(|recipe| &recipe.objective);
    if let (Some(last), Some(ObjectiveKeys::Sft(_) | ObjectiveKeys::Dpo(_))) = (stops.last(), objective)
        && last.step > 0
        && last.stopped < 0.5
    {
        found.push(format!(
            "Answers do not stop: {} of the samples of step {} ended by themselves. Check that the end token is a target, or \
             allow more tokens (sample.tokens)",
            percent(last.stopped),
            last.step
        ));
    }
    if let (Some(first), Some(last)) = (stops.first(), stops.last())
        && last.stopped < first.stopped - 0.25
    {
        found.push(format!(
            "Fewer samples end by themselves: {} at step {}, {} at step {}",
            percent(first.stopped),
            first.step,
            percent(last.stopped),
            last.step
        ));
    }
    found.extend(fallen_chosen(&history.steps, &history.validation));
    found.extend(held_out(run.comparable_validation()));
    if history.validation.is_empty() && !history.steps.is_empty() {
        found.push("Nothing was held out, so nothing tells learning from memorizing".to_owned());
    }
    if !history.skipped.is_empty() {
        let steps = counted(history.skipped.len() as u64, "step");
        found.push(format!("{steps} skipped: see “Skipped steps and changes”"));
    }
    if let Some(step) = history.steps.iter().find(|step| !step.loss.is_finite()) {
        found.push(format!("The loss of step {} is {}", step.step, step.loss));
    }
    found
}

/// Whether the chosen answers became less likely: of held-out pairs where they are measured, else of the steps.
fn fallen_chosen(steps: &[StepMetrics], validation: &[ValidationPoint]) -> Option<String> {
    let held_out: Vec<f64> =
        validation.iter().filter_map(|point| point.figures.get(CHOSEN).copied()).collect();
    let (where_, first, last) = if let [first, .., last] = held_out.as_slice() {
        ("held-out", *first, *last)
    } else {
        let values: Vec<f64> = steps.iter().filter_map(|step| step.figures.get(CHOSEN).copied()).collect();
        let tenth = (values.len() / 10).max(1);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        if values.len() < 2 {
            return None;
        }
        ("training", mean(&values[..tenth]), mean(&values[values.len() - tenth..]))
    };
    (last < first).then(|| {
        format!(
            "The chosen answers of the {where_} pairs became less likely: their mean log-probability fell from {first:.2} to \
             {last:.2}. A larger beta or an SFT term (objective.sft_weight) holds it"
        )
    })
}

/// Whether the held-out loss ended above its best, or above where it began.
fn held_out(points: &[ValidationPoint]) -> Vec<String> {
    let mut found = Vec::new();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return found };
    let best = points.iter().map(|point| point.loss).fold(f64::INFINITY, f64::min);
    if last.loss > best + 0.01 * best.abs() {
        let step = points.iter().find(|point| point.loss == best).map_or(0, |point| point.step);
        found.push(format!(
            "The held-out loss ended at {:.4}, above its best, {best:.4} after step {step}: fewer epochs or a lower learning \
             rate may do better",
            last.loss
        ));
    }
    if points.len() > 1 && first.step == 0 && last.loss >= first.loss {
        found.push(format!(
            "The held-out loss did not fall: {:.4} before, {:.4} after",
            first.loss, last.loss
        ));
    }
    found
}

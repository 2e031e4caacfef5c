//! Samples of the same prompts, side by side.

use super::view::{TableView, percent};
use crate::report::metrics::SampleText;
use serde::Serialize;

/// A prompt and its answers over the run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PromptView {
    prompt: String,
    /// The first, one from the middle, and the last.
    shown: Vec<AnswerView>,
    /// All others.
    others: Vec<AnswerView>,
}

#[derive(Clone, Debug, Serialize)]
struct AnswerView {
    when: String,
    text: String,
    note: Option<String>,
    /// Whether the limit on tokens ended it.
    cut: bool,
}

/// What the samples of one step have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StopRate {
    pub(super) step: u64,
    /// Share of the answers that the model ended itself.
    pub(super) stopped: f64,
    /// Mean tokens of an answer.
    pub(super) tokens: f64,
}

/// Every prompt in the order of its first sample. `last` is the run's last step, if it is finished.
pub(super) fn prompts(samples: &[SampleText], last: Option<u64>) -> Vec<PromptView> {
    let mut order: Vec<&str> = Vec::new();
    for sample in samples {
        if !order.contains(&sample.prompt.as_str()) {
            order.push(&sample.prompt);
        }
    }
    let view = |prompt: &&str| {
        let answers: Vec<&SampleText> = samples.iter().filter(|sample| sample.prompt == **prompt).collect();
        let mut places = vec![0, (answers.len() - 1) / 2, answers.len() - 1];
        places.dedup();
        let (mut shown, mut others) = (Vec::new(), Vec::new());
        for (place, answer) in answers.into_iter().enumerate() {
            let list = if places.contains(&place) { &mut shown } else { &mut others };
            list.push(AnswerView::of(answer, last));
        }
        PromptView { prompt: (*prompt).to_owned(), shown, others }
    };
    order.iter().map(view).collect()
}

impl AnswerView {
    fn of(sample: &SampleText, last: Option<u64>) -> AnswerView {
        let when = match sample.step {
            0 => "Before".to_owned(),
            step if Some(step) == last => format!("After (step {step})"),
            step => format!("Step {step}"),
        };
        let length = sample.tokens.map_or(String::new(), |tokens| format!(" after {tokens} tokens"));
        let note = sample.stopped.map(|stopped| match stopped {
            true => format!("stopped by itself{length}"),
            false => format!("cut off{length}"),
        });
        AnswerView { when, text: sample.text.clone(), note, cut: sample.stopped == Some(false) }
    }
}

/// The stop rate of each step with samples that record it.
pub(super) fn stop_rates(samples: &[SampleText]) -> Vec<StopRate> {
    let mut steps: Vec<u64> = samples.iter().map(|sample| sample.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let rate = |step: &u64| {
        let recorded = samples.iter().filter(|sample| sample.step == *step);
        let recorded: Vec<(bool, u64)> =
            recorded.filter_map(|sample| Some((sample.stopped?, sample.tokens?))).collect();
        let count = recorded.len() as f64;
        (!recorded.is_empty()).then(|| StopRate {
            step: *step,
            stopped: recorded.iter().filter(|(stopped, _)| *stopped).count() as f64 / count,
            tokens: recorded.iter().map(|(_, tokens)| *tokens as f64).sum::<f64>() / count,
        })
    };
    steps.iter().filter_map(rate).collect()
}

/// The stop rates as a table.
pub(super) fn stop_table(rates: &[StopRate]) -> Option<TableView> {
    let row =
        |rate: &StopRate| vec![rate.step.to_string(), percent(rate.stopped), format!("{:.0}", rate.tokens)];
    let heads = ["Step", "Stopped by themselves", "Mean tokens"];
    TableView::of("How the samples ended", &heads, rates.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(step: u64, prompt: &str, stopped: bool) -> SampleText {
        let (prompt, text) = (prompt.to_owned(), format!("at {step}"));
        SampleText { step, prompt, text, tokens: Some(10 + step), stopped: Some(stopped) }
    }

    #[test]
    fn the_first_the_middle_and_the_last_are_shown() {
        let samples: Vec<SampleText> = [0, 10, 20, 30, 40]
            .into_iter()
            .flat_map(|step| ["a", "b"].map(|p| sample(step, p, true)))
            .collect();
        let views = prompts(&samples, Some(40));
        assert_eq!(views.iter().map(|view| view.prompt.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let when: Vec<&str> = views[0].shown.iter().map(|answer| answer.when.as_str()).collect();
        assert_eq!(when, ["Before", "Step 20", "After (step 40)"]);
        assert_eq!(views[0].others.len(), 2);
        let unfinished = prompts(&samples[..4], None);
        let when: Vec<&str> = unfinished[0].shown.iter().map(|answer| answer.when.as_str()).collect();
        assert_eq!(when, ["Before", "Step 10"]);
    }

    #[test]
    fn stop_rates_are_shares_of_the_recorded_samples() {
        let mut samples = vec![sample(0, "a", false), sample(0, "b", false), sample(10, "a", true)];
        samples.push(SampleText { stopped: None, tokens: None, ..sample(10, "b", false) });
        let expected = [
            StopRate { step: 0, stopped: 0.0, tokens: 10.0 },
            StopRate { step: 10, stopped: 1.0, tokens: 20.0 },
        ];
        assert_eq!(stop_rates(&samples), expected);
        assert_eq!(stop_table(&expected).unwrap().rows[1], ["10", "100.0%", "20"]);
    }
}

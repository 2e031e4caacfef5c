//! The charts of a run: what every run has, then the figures of its objective.

use super::chart::{Chart, ChartView, Mark, Series, XUnit};
use super::run_files::RunHistory;
use super::view::title;
use crate::report::metrics::{StepMetrics, ValidationPoint};
use crate::report::plot::curves::Curve;
use crate::report::plot::round_below;

/// Figures that share a chart: its title, and each figure with its name in the legend. Others have charts of their own.
const GROUPS: [(&str, &[(&str, &str)]); 6] = [
    ("Reward accuracy", &[("reward_accuracy", "accuracy"), ("length_accuracy", "of length alone")]),
    ("Rewards", &[("reward_chosen", "chosen"), ("reward_rejected", "rejected")]),
    ("Reward margin", &[("reward_margin", "margin")]),
    ("Log-probability of an answer", &[("logp_chosen", "chosen"), ("logp_rejected", "rejected")]),
    ("KL divergence from the reference (nats per token)", &[("kl_from_reference", "KL")]),
    ("Tokens of an answer", &[("tokens_chosen", "chosen"), ("tokens_rejected", "rejected")]),
];

/// Draws the curves of a run.
pub(super) struct Charts<'a> {
    run: &'a RunHistory,
    x: XUnit,
    /// Steps in a running mean.
    pub(super) window: usize,
}

impl Charts<'_> {
    pub(super) fn new(run: &RunHistory, x: XUnit) -> Charts<'_> {
        Charts { run, x, window: round_below(run.steps.len() / 50).max(1) }
    }

    /// All charts that have a point, the loss first. `loss` is the title of the loss.
    pub(super) fn views(&self, loss: &str) -> Vec<ChartView> {
        let mut charts = vec![Chart {
            skipped: self.run.skipped.iter().filter_map(|skipped| self.place_of_step(skipped.step)).collect(),
            ..self.chart(
                loss,
                vec![
                    self.steps("training", self.window, |step| Some(step.loss)),
                    self.held_out("held out", |point| Some(point.loss)),
                ],
            )
        }];
        charts.extend(self.figures());
        let rate = self.steps("learning rate", 1, |step| Some(step.learning_rate));
        charts.push(Chart { from_zero: true, ..self.chart("Learning rate", vec![rate]) });
        let norm = self.steps("gradient norm", self.window, |step| Some(step.gradient_norm));
        charts.push(self.chart("Gradient norm before clipping", vec![norm]));
        let speed = self.steps("tokens per second", self.window, |step| Some(step.tokens_per_second));
        charts.push(self.chart("Tokens per second", vec![speed]));
        charts.iter().filter_map(Chart::view).collect()
    }

    fn figures(&self) -> Vec<Chart> {
        let mut names: Vec<&str> = Vec::new();
        let of_steps = self.run.steps.iter().flat_map(|step| step.figures.keys());
        for name in of_steps.chain(self.run.validation.iter().flat_map(|point| point.figures.keys())) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let mut charts = Vec::new();
        for (title, figures) in GROUPS {
            let there: Vec<&(&str, &str)> = figures.iter().filter(|(name, _)| names.contains(name)).collect();
            let mut series = Vec::new();
            for (name, label) in there {
                series.extend(self.figure(name, label));
                names.retain(|other| other != name);
            }
            charts.push(self.chart(title, series));
        }
        charts.extend(names.iter().map(|name| self.chart(&title(name), self.figure(name, &title(name)))));
        charts
    }

    /// A figure of the steps and of the held-out measurements.
    fn figure(&self, name: &str, label: &str) -> Vec<Series> {
        vec![
            self.steps(label, self.window, |step| step.figures.get(name).copied()),
            self.held_out(&format!("{label}, held out"), |point| point.figures.get(name).copied()),
        ]
    }

    fn chart(&self, title: &str, series: Vec<Series>) -> Chart {
        let mut stages: Vec<f64> = Vec::new();
        for pair in self.run.steps.windows(2) {
            if pair[0].stage != pair[1].stage {
                stages.push(self.place(pair[0].step, pair[0].tokens));
            }
        }
        let right = self.run.steps.last().map_or(1.0, |step| self.place(step.step, step.tokens));
        Chart {
            title: title.to_owned(),
            x: self.x,
            series,
            stages,
            skipped: Vec::new(),
            right,
            from_zero: false,
        }
    }

    fn steps(&self, name: &str, window: usize, value: impl Fn(&StepMetrics) -> Option<f64>) -> Series {
        let points = self
            .run
            .steps
            .iter()
            .filter_map(|step| value(step).map(|value| (self.place(step.step, step.tokens), value)));
        Series { name: name.to_owned(), mark: Mark::Line, curve: Curve::of(points, window) }
    }

    fn held_out(&self, name: &str, value: impl Fn(&ValidationPoint) -> Option<f64>) -> Series {
        let points = self
            .run
            .validation
            .iter()
            .filter_map(|point| value(point).map(|value| (self.place(point.step, point.tokens), value)));
        Series { name: name.to_owned(), mark: Mark::Dots, curve: Curve::of(points, 1) }
    }

    fn place(&self, step: u64, tokens: u64) -> f64 {
        match self.x {
            XUnit::Steps => step as f64,
            XUnit::Tokens => tokens as f64,
        }
    }

    fn place_of_step(&self, step: u64) -> Option<f64> {
        let found = self.run.steps.iter().find(|other| other.step >= step)?;
        Some(self.place(step, found.tokens))
    }
}

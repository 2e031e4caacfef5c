//! Curves of a run: points, running means, and thinning.

use super::axis::Axis;
use super::runs::RunMetrics;
use crate::error::{Error, Result};
use crate::report::metrics;

/// Most points of a drawn curve; longer curves are thinned.
pub(in crate::report) const POINTS: usize = 1200;

/// What the x axis counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum XAxis {
    /// Optimizer steps.
    #[default]
    Steps,
    /// Tokens trained on.
    Tokens,
}

impl XAxis {
    pub(super) fn name(self) -> &'static str {
        match self {
            XAxis::Steps => "Steps",
            XAxis::Tokens => "Tokens",
        }
    }
}

/// One quantity of a run, ready to draw: the points themselves and their running mean.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Curve {
    pub(in crate::report) raw: Vec<(f64, f64)>,
    pub(in crate::report) smooth: Vec<(f64, f64)>,
}

impl Curve {
    /// Drops values that cannot be shown.
    pub(in crate::report) fn of(points: impl Iterator<Item = (f64, f64)>, window: usize) -> Curve {
        let raw: Vec<(f64, f64)> = points.filter(|(_, y)| can_be_shown(*y)).collect();
        Curve { smooth: smoothed(&raw, window), raw }
    }

    /// Smallest and largest value to show; clips outliers above 1.5 times the 99th percentile.
    pub(in crate::report) fn span(&self) -> Option<(f64, f64)> {
        let mut sorted: Vec<f64> = self.raw.iter().map(|(_, y)| *y).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let common = sorted[(sorted.len() - 1) * 99 / 100];
        let high = if common > 0.0 { high.min(1.5 * common) } else { high };
        Some((low, self.smooth.iter().map(|(_, y)| *y).fold(high, f64::max)))
    }
}

/// A vertical axis for curves and single values, with a margin; logarithmic where they span more than a
/// factor of two.
pub(in crate::report) fn around<'a>(
    curves: impl Iterator<Item = &'a Curve>,
    values: &[f64],
    ticks: usize,
) -> Axis {
    let spans = curves.filter_map(Curve::span).chain(values.iter().map(|value| (*value, *value)));
    let (low, high) = spans.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (least, most)| {
        (low.min(least), high.max(most))
    });
    if low > high {
        return Axis::linear(0.0, 1.0, ticks);
    }
    if low > 0.0 && high > 2.0 * low {
        let air = (0.04 * (high.ln() - low.ln())).exp();
        return Axis::logarithmic(low / air, high * air, ticks);
    }
    let air = ((high - low) * 0.05).max(high.abs() * 0.005);
    Axis::linear(low - air, high + air, ticks)
}

/// Neither NaN nor infinite, nor so large that sums and squares of it are.
fn can_be_shown(value: f64) -> bool {
    value.abs() < 1e100
}

/// Mean over `window` points around each. Near the beginning, where curves are steepest, the window
/// shrinks to what both sides have, so that a curve starts where its points do; near the end one side runs short.
pub(in crate::report) fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut sums = Vec::with_capacity(points.len() + 1);
    sums.push(0.0);
    for (_, y) in points {
        sums.push(sums[sums.len() - 1] + y);
    }
    let mean = |(index, (x, _)): (usize, &(f64, f64))| {
        let (before, after) = (((window - 1) / 2).min(index), (window / 2).min(index));
        let (from, to) = (index - before, (index + after + 1).min(points.len()));
        (*x, (sums[to] - sums[from]) / (to - from) as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

/// At most about `POINTS` points: of each group of neighbours its lowest and highest, in their order.
pub(in crate::report) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(POINTS);
    for group in points.chunks(points.len().div_ceil(POINTS / 2)) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (group.iter().min_by(by_height), group.iter().max_by(by_height));
        let mut pair: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        pair.sort_by(|a, b| a.0.total_cmp(&b.0));
        pair.dedup();
        kept.extend(pair);
    }
    kept
}

/// All of one run that is drawn.
#[derive(Clone, Debug)]
pub(super) struct Curves {
    pub(super) name: String,
    pub(super) loss: Curve,
    pub(super) learning_rate: Curve,
    pub(super) norm: Curve,
    pub(super) validation: Vec<(f64, f64)>,
    /// Each stage's name and its start and end on the x axis.
    pub(super) stages: Vec<(String, f64, f64)>,
    pub(super) right: f64,
}

impl Curves {
    pub(super) fn of(run: &RunMetrics, window: usize, x_axis: XAxis) -> Result<Curves> {
        let place = |step: u64, tokens: u64| match x_axis {
            XAxis::Steps => step as f64,
            XAxis::Tokens => tokens as f64,
        };
        let curve = |value: fn(&metrics::StepMetrics) -> f64, window| {
            Curve::of(run.steps.iter().map(|step| (place(step.step, step.tokens), value(step))), window)
        };
        let validation = run.validation.iter().map(|point| (place(point.step, point.tokens), point.loss));
        let mut stages: Vec<(String, f64, f64)> = Vec::new();
        for step in &run.steps {
            let here = place(step.step, step.tokens);
            match stages.last_mut() {
                Some((name, _, end)) if *name == step.stage => *end = here,
                _ => stages.push((step.stage.clone(), stages.last().map_or(0.0, |(_, _, end)| *end), here)),
            }
        }
        let loss = curve(|step| step.loss, window);
        if loss.raw.is_empty() {
            return Err(Error::Invalid(format!(
                "{}: no step has a finite loss, so there is nothing to draw",
                run.name
            )));
        }
        Ok(Curves {
            name: run.name.clone(),
            loss,
            learning_rate: curve(|step| step.learning_rate, 1),
            norm: curve(|step| step.gradient_norm, window),
            validation: validation.filter(|(_, y)| can_be_shown(*y)).collect(),
            right: stages.last().map_or(0.0, |(_, _, end)| *end),
            stages,
        })
    }
}

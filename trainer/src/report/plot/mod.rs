//! Plots of runs: loss, learning rate and gradient norm over steps or tokens, as SVG.

mod axis;
mod picture;

use super::metrics::{self, MetricsEvent};
use crate::error::{Error, Result};
use axis::Axis;
use picture::Picture;
use std::path::Path;

/// Most points of a drawn curve; longer curves are thinned.
const POINTS: usize = 1200;

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
    fn name(self) -> &'static str {
        match self {
            XAxis::Steps => "Steps",
            XAxis::Tokens => "Tokens",
        }
    }
}

/// How a plot is drawn.
#[derive(Clone, Debug, Default)]
pub struct PlotOptions {
    /// The title; a single run's name unless given.
    pub title: Option<String>,
    /// Steps in the mean that loss and gradient norm are smoothed with; a fiftieth of the longest run unless given.
    pub smooth: Option<usize>,
    /// What the x axis counts.
    pub x_axis: XAxis,
}

/// What is drawn of one run.
#[derive(Clone, Debug)]
pub struct RunMetrics {
    name: String,
    steps: Vec<metrics::StepMetrics>,
    validation: Vec<metrics::ValidationPoint>,
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
                MetricsEvent::Sample(_) | MetricsEvent::Unknown => {}
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

/// Draws one or more runs as an SVG document.
///
/// # Errors
/// [`Error::Invalid`] when there is no run, or a run has no finite loss.
pub fn draw(runs: &[RunMetrics], options: &PlotOptions) -> Result<String> {
    let longest = runs.iter().map(|run| run.steps.len()).max().unwrap_or(0);
    let window = options.smooth.unwrap_or_else(|| round_below(longest / 50)).max(1);
    let curves =
        runs.iter().map(|run| Curves::of(run, window, options.x_axis)).collect::<Result<Vec<_>>>()?;
    let right = curves.iter().map(|curves| curves.right).fold(f64::NAN, f64::max);
    if right.is_nan() {
        return Err(Error::Usage("expected at least one run to draw".into()));
    }
    let picture = Picture {
        x: Axis::counts(right, 8),
        x_axis: options.x_axis,
        title: match (&options.title, runs) {
            (Some(title), _) => title.clone(),
            (None, [run]) => run.name.clone(),
            _ => String::new(),
        },
        window,
        curves,
    };
    picture.draw()
}

/// Draws runs into a file, atomically.
///
/// # Errors
/// As [`draw`]; [`Error::File`] when the file cannot be written.
pub fn write(runs: &[RunMetrics], options: &PlotOptions, path: &Path) -> Result<()> {
    crate::atomic_file::write_atomically(path, draw(runs, options)?.as_bytes())
}

/// One quantity of a run, ready to draw: the points themselves and their running mean.
#[derive(Clone, Debug, Default)]
struct Curve {
    raw: Vec<(f64, f64)>,
    smooth: Vec<(f64, f64)>,
}

impl Curve {
    /// Drops values that cannot be shown.
    fn of(points: impl Iterator<Item = (f64, f64)>, window: usize) -> Curve {
        let raw: Vec<(f64, f64)> = points.filter(|(_, y)| can_be_shown(*y)).collect();
        Curve { smooth: smoothed(&raw, window), raw }
    }

    /// Smallest and largest value to show; clips outliers above 1.5 times the 99th percentile.
    fn span(&self) -> Option<(f64, f64)> {
        let mut sorted: Vec<f64> = self.raw.iter().map(|(_, y)| *y).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let common = sorted[(sorted.len() - 1) * 99 / 100];
        let high = if common > 0.0 { high.min(1.5 * common) } else { high };
        Some((low, self.smooth.iter().map(|(_, y)| *y).fold(high, f64::max)))
    }
}

/// The largest of 1, 2, 5, 10, 20, ... that is not above `count`; 0 for 0.
fn round_below(count: usize) -> usize {
    let power = 10_usize.pow(count.checked_ilog10().unwrap_or(0));
    [5, 2, 1].into_iter().map(|digit| digit * power).find(|round| *round <= count).unwrap_or(0)
}

/// Neither NaN nor infinite, nor so large that sums and squares of it are.
fn can_be_shown(value: f64) -> bool {
    value.abs() < 1e100
}

/// Mean over `window` points around each. Near the beginning, where curves are steepest, the window
/// shrinks to what both sides have, so that a curve starts where its points do; near the end one side runs short.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
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
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
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
struct Curves {
    name: String,
    loss: Curve,
    learning_rate: Curve,
    norm: Curve,
    validation: Vec<(f64, f64)>,
    /// Each stage's name and its start and end on the x axis.
    stages: Vec<(String, f64, f64)>,
    right: f64,
}

impl Curves {
    fn of(run: &RunMetrics, window: usize, x_axis: XAxis) -> Result<Curves> {
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

#[cfg(test)]
mod tests;

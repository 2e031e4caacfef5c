//! Plots of runs: loss, learning rate and gradient norm over steps or tokens, as SVG.

pub(in crate::report) mod axis;
pub(in crate::report) mod curves;
mod picture;
mod runs;

pub use curves::XAxis;
pub use runs::{RunMetrics, read};

use crate::error::{Error, Result};
use axis::Axis;
use curves::Curves;
use picture::Picture;
use std::path::Path;

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

/// The largest of 1, 2, 5, 10, 20, ... that is not above `count`; 0 for 0.
pub(in crate::report) fn round_below(count: usize) -> usize {
    let power = 10_usize.pow(count.checked_ilog10().unwrap_or(0));
    [5, 2, 1].into_iter().map(|digit| digit * power).find(|round| *round <= count).unwrap_or(0)
}

#[cfg(test)]
mod tests;

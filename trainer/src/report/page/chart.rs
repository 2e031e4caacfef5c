//! Small charts as inline SVG: the page's style sheet colours them, so that they follow its light and dark schemes.
//!
//! A chart's text is numbers alone; its title, legend and description are HTML around it.

use crate::report::plot::axis::{Axis, plain, short_count};
use crate::report::plot::curves::{Curve, around, thinned};
use serde::Serialize;
use std::fmt::Write;

/// Size of a chart, in its own units: about as many pixels on a page of any width.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 230.0;
/// The frame inside it, which leaves room for the labels.
const LEFT: f64 = 50.0;
const RIGHT: f64 = 390.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 202.0;
/// Ticks of either axis, about.
const TICKS: usize = 4;

/// What the x axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XUnit {
    Steps,
    Tokens,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A line through every point, or its running mean over faint points where there is one.
    Line,
    /// A line with a dot at each point, for the few measurements between steps.
    Dots,
}

/// One quantity of a chart.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) curve: Curve,
}

/// Several quantities of one unit over one x axis.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: XUnit,
    pub(super) series: Vec<Series>,
    /// Ends of the stages but the last, as vertical lines.
    pub(super) stages: Vec<f64>,
    /// Steps that were skipped, as marks on the x axis.
    pub(super) skipped: Vec<f64>,
    /// Right end of the x axis.
    pub(super) right: f64,
    /// Whether the y axis begins at 0 and is linear.
    pub(super) from_zero: bool,
}

/// A chart as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChartView {
    title: String,
    /// A sentence for those who do not see the chart.
    description: String,
    /// The inside of the SVG element.
    body: String,
    width: f64,
    height: f64,
    legend: Vec<LegendEntry>,
}

#[derive(Clone, Debug, Serialize)]
struct LegendEntry {
    name: String,
    class: String,
}

impl Chart {
    /// The chart for the page; none without a point to draw.
    pub(super) fn view(&self) -> Option<ChartView> {
        let drawn: Vec<&Series> = self.series.iter().filter(|series| !series.curve.raw.is_empty()).collect();
        if drawn.is_empty() {
            return None;
        }
        let y = if self.from_zero {
            let values = drawn.iter().flat_map(|series| series.curve.raw.iter().map(|(_, y)| *y));
            Axis::linear(0.0, values.fold(0.0, f64::max) * 1.08, TICKS)
        } else {
            around(drawn.iter().map(|series| &series.curve), &[], TICKS)
        };
        let frame = Frame { x: Axis::counts(self.right, TICKS), y, unit: self.x };
        let mut body = frame.grid();
        for stage in &self.stages {
            let x = frame.x(*stage);
            line(&mut body, "stage", (x, TOP), (x, BOTTOM));
        }
        for (index, series) in drawn.iter().enumerate() {
            frame.series(&mut body, series, index);
        }
        for step in &self.skipped {
            let x = frame.x(*step);
            let (left, right, low, high) = (x - 4.0, x + 4.0, BOTTOM, BOTTOM - 8.0);
            // Writing to a String cannot fail.
            let _ = write!(
                body,
                "<path class=\"skipped\" d=\"M{left:.1} {low:.1}L{right:.1} {low:.1}L{x:.1} {high:.1}Z\"/>"
            );
        }
        let mut legend: Vec<LegendEntry> = Vec::new();
        if drawn.len() > 1 {
            let class = |index: usize, mark| match mark {
                Mark::Line => format!("line s{index}"),
                Mark::Dots => format!("dots s{index}"),
            };
            legend.extend(drawn.iter().enumerate().map(|(index, series)| LegendEntry {
                name: series.name.clone(),
                class: class(index, series.mark),
            }));
        }
        if !self.skipped.is_empty() {
            legend.push(LegendEntry { name: "skipped step".into(), class: "triangle".into() });
        }
        let scale = if frame.y.is_logarithmic() { ", log scale" } else { "" };
        Some(ChartView {
            title: format!("{}{scale}", self.title),
            description: self.description(&drawn),
            body,
            width: WIDTH,
            height: HEIGHT,
            legend,
        })
    }

    /// First, lowest, highest and last value of each series.
    fn description(&self, drawn: &[&Series]) -> String {
        let unit = match self.x {
            XUnit::Steps => "step",
            XUnit::Tokens => "token",
        };
        let sentences = drawn.iter().filter_map(|series| {
            let points = &series.curve.smooth;
            let ((from, first), (to, last)) = (points.first()?, points.last()?);
            let low = points.iter().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
            Some(format!(
                "{}: {} at {unit} {}, {} at {unit} {}, lowest {}, highest {}.",
                series.name,
                plain(*first),
                short_count(*from),
                plain(*last),
                short_count(*to),
                plain(low),
                plain(high)
            ))
        });
        format!("{}. {}", self.title, sentences.collect::<Vec<_>>().join(" "))
    }
}

/// The axes of a chart.
struct Frame {
    x: Axis,
    y: Axis,
    unit: XUnit,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.y.share(value) * (BOTTOM - TOP)
    }

    /// Lines and labels of the ticks.
    fn grid(&self) -> String {
        let mut body = String::new();
        for tick in self.y.ticks() {
            let y = self.y(*tick);
            line(&mut body, "grid", (LEFT, y), (RIGHT, y));
            label(&mut body, "end", (LEFT - 5.0, y + 4.0), &plain(*tick));
        }
        line(&mut body, "axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
        for tick in self.x.ticks() {
            let (x, words) = match self.unit {
                XUnit::Steps => (self.x(*tick), plain(*tick)),
                XUnit::Tokens => (self.x(*tick), short_count(*tick)),
            };
            line(&mut body, "axis", (x, BOTTOM), (x, BOTTOM + 4.0));
            let anchor = if x > RIGHT - 12.0 { "end" } else { "middle" };
            label(&mut body, anchor, (x.min(RIGHT), BOTTOM + 18.0), &words);
        }
        body
    }

    fn series(&self, body: &mut String, series: &Series, index: usize) {
        let curve = &series.curve;
        let single = curve.raw.len() == 1;
        if curve.smooth != curve.raw {
            self.polyline(body, &format!("raw s{index}"), &curve.raw);
        }
        self.polyline(body, &format!("line s{index}"), &curve.smooth);
        if series.mark == Mark::Dots || single {
            for (x, y) in thinned(&curve.raw) {
                let (x, y) = (self.x(x), self.y(y));
                let _ =
                    write!(body, "<circle class=\"dot s{index}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
            }
        }
    }

    fn polyline(&self, body: &mut String, class: &str, points: &[(f64, f64)]) {
        let _ = write!(body, "<polyline class=\"{class}\" points=\"");
        for (x, y) in thinned(points) {
            let _ = write!(body, "{:.1},{:.1} ", self.x(x), self.y(y));
        }
        body.push_str("\"/>");
    }
}

fn line(body: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ =
        write!(body, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

fn label(body: &mut String, anchor: &str, (x, y): (f64, f64), number: &str) {
    let _ = write!(body, "<text text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{number}</text>");
}

/// A bar of a histogram: values in `from..=to`, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) count: u64,
}

/// A histogram with bars of equal width, each labelled by the largest value that it counts.
pub(super) fn histogram(title: &str, what: &str, bars: &[Bar]) -> Option<ChartView> {
    let most = bars.iter().map(|bar| bar.count).max().filter(|most| *most > 0)?;
    let frame =
        Frame { x: Axis::counts(1.0, 1), y: Axis::counts(most as f64 * 1.05, TICKS), unit: XUnit::Steps };
    let mut body = String::new();
    for tick in frame.y.ticks() {
        let y = frame.y(*tick);
        line(&mut body, "grid", (LEFT, y), (RIGHT, y));
        label(&mut body, "end", (LEFT - 5.0, y + 4.0), &short_count(*tick));
    }
    let step = (RIGHT - LEFT) / bars.len() as f64;
    // A label for every bar would not fit.
    let every = bars.len().div_ceil(6);
    for (index, bar) in bars.iter().enumerate() {
        let x = LEFT + step * index as f64;
        let top = frame.y(bar.count as f64);
        let (width, height) = ((step - 1.5).max(0.5), BOTTOM - top);
        let _ = write!(
            body,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
        if index % every == 0 {
            label(&mut body, "middle", (x + step / 2.0, BOTTOM + 18.0), &plain(bar.to as f64));
        }
    }
    line(&mut body, "axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    let all: u64 = bars.iter().map(|bar| bar.count).sum();
    let largest = bars.iter().max_by_key(|bar| bar.count)?;
    let description = format!(
        "{title}. {all} {what}, {} of them from {} to {} tokens.",
        largest.count, largest.from, largest.to
    );
    let legend = Vec::new();
    Some(ChartView { title: title.into(), description, body, width: WIDTH, height: HEIGHT, legend })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        let curve = Curve::of(points.iter().copied(), 1);
        Series { name: name.into(), mark: Mark::Line, curve }
    }

    fn chart(series: Vec<Series>) -> Chart {
        let (stages, skipped) = (vec![2.0], vec![3.0]);
        Chart { title: "Loss".into(), x: XUnit::Steps, series, stages, skipped, right: 4.0, from_zero: false }
    }

    #[test]
    fn a_chart_spans_its_frame_and_describes_itself() {
        let view = chart(vec![series("training", &[(0.0, 1.0), (4.0, 1.5)])]).view().unwrap();
        assert_eq!(view.description, "Loss. training: 1 at step 0, 1.5 at step 4, lowest 1, highest 1.5.");
        let start = view.body.split("line s0\" points=\"").nth(1).unwrap();
        let ends: Vec<&str> = start.split('"').next().unwrap().split_whitespace().collect();
        assert!(ends[0].starts_with("50.0,") && ends[1].starts_with("390.0,"), "{ends:?}");
        let heights: Vec<f64> =
            ends.iter().map(|end| end.split(',').nth(1).unwrap().parse().unwrap()).collect();
        assert!(heights[0] > heights[1] && heights.iter().all(|y| (TOP..=BOTTOM).contains(y)), "{heights:?}");
        assert!(view.body.contains("class=\"skipped\"") && view.body.contains("class=\"stage\""));
    }

    #[test]
    fn values_that_cannot_be_shown_leave_no_trace() {
        let odd = [(1.0, f64::NAN), (2.0, f64::INFINITY), (3.0, 2.0)];
        let view = chart(vec![series("training", &odd)]).view().unwrap();
        assert!(!view.body.contains("NaN") && !view.body.contains("inf"), "{}", view.body);
        assert!(chart(vec![series("training", &[(1.0, f64::NAN)])]).view().is_none());
    }

    #[test]
    fn a_legend_is_there_where_it_tells_something_apart() {
        let one = chart(vec![series("a", &[(0.0, 1.0)])]);
        assert_eq!(one.view().unwrap().legend.len(), 1, "the skipped step's");
        let two = chart(vec![series("a", &[(0.0, 1.0)]), series("b", &[(0.0, 2.0)])]);
        assert_eq!(two.view().unwrap().legend.len(), 3);
    }

    #[test]
    fn bars_are_as_high_as_they_count() {
        let bars = [Bar { from: 0, to: 63, count: 10 }, Bar { from: 64, to: 127, count: 5 }];
        let view = histogram("Lengths", "examples", &bars).unwrap();
        let heights: Vec<f64> = view
            .body
            .split(" height=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((heights[0] - 2.0 * heights[1]).abs() < 0.2, "{heights:?}");
        assert!(view.description.contains("15 examples, 10 of them from 0 to 63 tokens"));
        assert!(histogram("Lengths", "examples", &[]).is_none());
    }
}

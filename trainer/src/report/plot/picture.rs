//! The page: three panels over one x axis, a legend, and the stages' names.

use super::axis::{Axis, plain, short_count};
use super::curves::{Curve, Curves, XAxis, around, thinned};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of the page in pixels.
const WIDTH: i32 = 960;
/// Heights of the three frames.
const FRAMES: [i32; 3] = [400, 150, 150];
/// Margins left (for labels) and right of the frames.
const LEFT: i32 = 66;
const RIGHT: i32 = 24;
/// Above a frame, for its heading; below the last one, for the x axis' labels.
const HEADING: i32 = 36;
const FOOT: i32 = 44;
/// Below all.
const MARGIN: i32 = 14;
/// Drawn units per pixel: plotters rounds every coordinate to a whole one, which is visible as steps.
const FINE: i32 = 8;

const FONT: &str = "Helvetica, Arial, Liberation Sans, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
/// Opacity of the points under their mean.
const FAINT: f64 = 0.28;

/// Colours that stay apart for the colour-blind (Okabe and Ito 2008), the darker ones first.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// Everything on the page.
pub(super) struct Picture {
    /// The x axis of all panels.
    pub(super) x: Axis,
    /// What it counts.
    pub(super) x_axis: XAxis,
    /// The title; none if empty.
    pub(super) title: String,
    /// Steps in a mean.
    pub(super) window: usize,
    /// The runs.
    pub(super) curves: Vec<Curves>,
}

type Backend<'a> = SVGBackend<'a>;
type Page<'a> = DrawingArea<Backend<'a>, Shift>;
type Frame<'a> = DrawingArea<Backend<'a>, Cartesian2d<Axis, Axis>>;
type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// One of the three panels.
struct Panel {
    heading: String,
    y: Axis,
    /// Its frame's upper and lower end on the page.
    top: i32,
    bottom: i32,
    /// Whether it carries the labels of the x axis.
    labelled: bool,
}

impl Picture {
    /// The SVG document.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        let height = self.first_frame() + FRAMES.iter().sum::<i32>() + 2 * HEADING + FOOT + MARGIN;
        let fine = ((WIDTH * FINE) as u32, (height * FINE) as u32);
        let root = SVGBackend::with_string(&mut svg, fine).into_drawing_area();
        self.draw_on(&root).map_err(|error| Error::Invalid(format!("cannot draw the plot: {error}")))?;
        drop(root);
        // Scales the page back; round joins avoid long miters at spikes.
        let drawn = format!("width=\"{}\" height=\"{}\"", fine.0, fine.1);
        let shown = format!("width=\"{WIDTH}\" height=\"{height}\" stroke-linejoin=\"round\"");
        Ok(svg.replacen(&drawn, &shown, 1))
    }

    fn draw_on(&self, root: &Page) -> Drawn {
        root.fill(&WHITE)?;
        if !self.title.is_empty() {
            text(root, &self.title, (LEFT, 26), &style(18.0, INK).bold(HPos::Left))?;
        }
        let log = |axis: &Axis| if axis.is_logarithmic() { ", log scale" } else { "" };
        let loss = self.loss_axis();
        let norm = around(self.curves.iter().map(|curves| &curves.norm), &[], 7);
        let axes = [
            (format!("Loss (nats per token{})", log(&loss)), loss),
            ("Learning rate".to_string(), self.rate_axis()),
            (format!("Gradient norm (before clipping{})", log(&norm)), norm),
        ];
        let mut top = self.first_frame();
        for (index, (heading, y)) in axes.into_iter().enumerate() {
            let bottom = top + FRAMES[index];
            let panel = Panel { heading, y, top, bottom, labelled: index == FRAMES.len() - 1 };
            let frame = self.frame(root, &panel)?;
            for (curves, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
                let curve = [&curves.loss, &curves.learning_rate, &curves.norm][index];
                // A learning rate has no noise.
                self.draw_curve(&frame, curve, (*colour, index != 1))?;
            }
            if index == 0 {
                self.draw_validation(&frame)?;
                self.draw_legend(root, &panel)?;
            }
            top = bottom + HEADING;
        }
        root.present()
    }

    /// Where the first frame begins: below the title, its heading and the stages' names.
    fn first_frame(&self) -> i32 {
        let title = if self.title.is_empty() { 0 } else { 36 };
        title + HEADING + if self.stages().len() > 1 { 16 } else { 0 }
    }

    /// The stages of a single run.
    fn stages(&self) -> &[(String, f64, f64)] {
        match self.curves.as_slice() {
            [curves] => &curves.stages,
            _ => &[],
        }
    }

    fn loss_axis(&self) -> Axis {
        let validation: Vec<f64> =
            self.curves.iter().flat_map(|curves| curves.validation.iter().map(|(_, y)| *y)).collect();
        around(self.curves.iter().map(|curves| &curves.loss), &validation, 8)
    }

    fn rate_axis(&self) -> Axis {
        let rates = self.curves.iter().flat_map(|curves| curves.learning_rate.raw.iter().map(|(_, y)| *y));
        Axis::linear(0.0, rates.fold(0.0, f64::max) * 1.08, 4)
    }

    /// Heading, grid, labels, and the area inside.
    fn frame<'a>(&self, root: &Page<'a>, panel: &Panel) -> Drawn<Frame<'a>> {
        let names =
            if panel.labelled || self.stages().len() < 2 || panel.top != self.first_frame() { 0 } else { 16 };
        text(root, &panel.heading, (LEFT, panel.top - 12 - names), &style(13.0, INK).bold(HPos::Left))?;
        let foot = if panel.labelled { FOOT } else { 0 };
        let size = (WIDTH as u32, (panel.bottom - panel.top + foot) as u32);
        let area = root.clone().shrink((0, panel.top * FINE), (size.0 * FINE as u32, size.1 * FINE as u32));
        let mut chart = ChartBuilder::on(&area)
            .margin_right(RIGHT * FINE)
            .y_label_area_size(LEFT * FINE)
            .x_label_area_size(foot * FINE)
            .build_cartesian_2d(self.x.clone(), panel.y.clone())?;
        let count = |value: &f64| match self.x_axis {
            XAxis::Steps => plain(*value),
            XAxis::Tokens => short_count(*value),
        };
        let label = style(12.0, GREY).text(HPos::Left);
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(FINE as u32))
            .light_line_style(TRANSPARENT)
            .axis_style(GREY.stroke_width(FINE as u32))
            .label_style(label)
            .axis_desc_style(style(13.0, INK).text(HPos::Left))
            .x_label_formatter(&count)
            .y_label_formatter(&|value| plain(*value))
            .x_desc(if panel.labelled { self.x_axis.name() } else { "" })
            .set_all_tick_mark_size(4 * FINE)
            .draw()?;
        let frame = chart.plotting_area().clone();
        let ((left, right), (low, high)) = (self.x.ends(), panel.y.ends());
        let edge = GREY.stroke_width(FINE as u32);
        frame.draw(&PathElement::new(vec![(left, low), (right, low)], edge))?;
        for (index, (name, from, to)) in self.stages().iter().enumerate() {
            if index > 0 {
                let line = vec![(*from, low), (*from, high)];
                frame.draw(&PathElement::new(line, GREY.mix(0.6).stroke_width(FINE as u32)))?;
            }
            if names > 0 {
                self.draw_stage_name(root, &frame, (name, *from, *to))?;
            }
        }
        Ok(frame)
    }

    /// Above the first frame, in the middle of the stage, if there is room.
    fn draw_stage_name(&self, root: &Page, frame: &Frame, (name, from, to): (&str, f64, f64)) -> Drawn {
        let pixel = |x: f64| frame.map_coordinate(&(x, 0.0)).0 / FINE;
        let (from, to) = (pixel(from), pixel(to));
        if to - from < text_width(name, 11.0) + 6 {
            return Ok(());
        }
        text(root, name, ((from + to) / 2, self.first_frame() - 9), &style(11.0, GREY).text(HPos::Center))
    }

    fn draw_curve(&self, frame: &Frame, curve: &Curve, (colour, noisy): (RGBColor, bool)) -> Drawn {
        if let [only] = curve.raw.as_slice() {
            return frame.draw(&Circle::new(*only, 5 * FINE / 2, colour.filled()));
        }
        if noisy && self.window > 1 {
            let faint = colour.mix(FAINT).stroke_width(FINE as u32);
            frame.draw(&PathElement::new(thinned(&curve.raw), faint))?;
        }
        let line = colour.stroke_width(FINE as u32 * 7 / 4);
        frame.draw(&PathElement::new(thinned(&curve.smooth), line))
    }

    fn draw_validation(&self, frame: &Frame) -> Drawn {
        for (curves, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
            for place in &curves.validation {
                frame.draw(&Circle::new(*place, 9 * FINE / 2, WHITE.filled()))?;
                frame.draw(&Circle::new(*place, 7 * FINE / 2, colour.filled()))?;
            }
        }
        Ok(())
    }

    /// Draws the legend in the upper right corner, which falling losses leave free.
    fn draw_legend(&self, root: &Page, panel: &Panel) -> Drawn {
        let single = self.curves.len() == 1;
        let tone = if single { COLOURS[0] } else { GREY };
        let mut rows: Vec<(String, Mark, RGBColor)> = Vec::new();
        if !single {
            let named = self.curves.iter().zip(COLOURS.iter().cycle());
            rows.extend(named.map(|(curves, colour)| (curves.name.clone(), Mark::Line, *colour)));
        }
        if self.window > 1 {
            rows.push((
                format!("mean of {} steps", crate::units::grouped(self.window as u64)),
                Mark::Line,
                tone,
            ));
            rows.push(("each step".into(), Mark::Faint, tone));
        } else {
            rows.push(("each step".into(), Mark::Line, tone));
        }
        if self.curves.iter().any(|curves| !curves.validation.is_empty()) {
            rows.push(("validation".into(), Mark::Dot, tone));
        }
        let right = WIDTH - RIGHT - 12;
        let width = rows.iter().map(|(name, ..)| text_width(name, 12.0)).max().unwrap_or(0) + 42;
        let (top, height) = (panel.top + 8, rows.len() as i32 * 18 + 6);
        let corners = [(right - width, panel.top), (WIDTH - RIGHT + 1, top + height)];
        let corners = corners.map(|(x, y)| (x * FINE, y * FINE));
        root.draw(&Rectangle::new(corners, WHITE.filled()))?;
        for (index, (name, mark, colour)) in rows.into_iter().enumerate() {
            let y = top + 12 + 18 * index as i32;
            text(root, &name, (right - 32, y), &style(12.0, INK).text(HPos::Right))?;
            let ends = vec![((right - 24) * FINE, y * FINE), (right * FINE, y * FINE)];
            match mark {
                Mark::Line => root.draw(&PathElement::new(ends, colour.stroke_width(FINE as u32 * 7 / 4)))?,
                Mark::Faint => {
                    root.draw(&PathElement::new(ends, colour.mix(FAINT).stroke_width(FINE as u32)))?;
                }
                Mark::Dot => {
                    let middle = ((right - 12) * FINE, y * FINE);
                    root.draw(&Circle::new(middle, 7 * FINE / 2, colour.filled()))?;
                }
            }
        }
        Ok(())
    }
}

/// The mark of a legend entry.
enum Mark {
    Line,
    Faint,
    Dot,
}

/// Size in pixels and colour of a text.
struct Style {
    size: f64,
    colour: RGBColor,
}

fn style(size: f64, colour: RGBColor) -> Style {
    Style { size, colour }
}

impl Style {
    /// plotters' sizes are 1.24 times those that it writes.
    fn font(&self) -> FontDesc<'static> {
        (FONT, self.size * 1.24 * f64::from(FINE)).into_font()
    }

    fn text(&self, anchor: HPos) -> TextStyle<'static> {
        self.font().color(&self.colour).pos(Pos::new(anchor, VPos::Center))
    }

    fn bold(&self, anchor: HPos) -> TextStyle<'static> {
        self.font().style(FontStyle::Bold).color(&self.colour).pos(Pos::new(anchor, VPos::Center))
    }
}

/// Writes at a place on the page, in pixels.
fn text(root: &Page, words: &str, (x, y): (i32, i32), style: &TextStyle) -> Drawn {
    root.draw_text(words, style, (x * FINE, y * FINE))
}

/// About the width of a text in pixels: the viewer's font is unknown.
fn text_width(words: &str, size: f64) -> i32 {
    (words.chars().count() as f64 * size * 0.56).ceil() as i32
}

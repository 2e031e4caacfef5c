//! Plots divergence over size.

use super::{Report, Trial};
use crate::ConvertError;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (960, 440);
const FONT: &str = "Helvetica, Arial, Liberation Sans, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xe6, 0xe6, 0xe6);
/// Colours that colour-blind readers can distinguish (Okabe and Ito 2008).
const OTHER: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const REQUESTED: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// The lowest divergence drawn, for the logarithmic axis.
const MIN_DIVERGENCE: f64 = 1e-7;

/// An SVG element: megabytes along, mean KL divergence up, a point for each trial.
pub(super) fn draw(report: &Report) -> Result<String, ConvertError> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    draw_on(&root, &report.trials).map_err(|error| ConvertError::Plot { reason: error.to_string() })?;
    drop(root);
    // Without the XML declaration, to embed it in a page.
    Ok(svg.find("<svg").map_or_else(String::new, |start| svg[start..].to_owned()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_on(root: &Area<'_>, trials: &[Trial]) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    root.fill(&WHITE)?;
    let kl = |trial: &Trial| trial.cost.mean.max(MIN_DIVERGENCE);
    let ends = |of: &dyn Fn(&Trial) -> f64| {
        let all = trials.iter().map(of).filter(|value| value.is_finite());
        all.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((least, most), (close, far)) = (ends(&Trial::megabytes), ends(&kl));
    if most <= 0.0 || far <= 0.0 {
        return root.present();
    }
    let room = ((most - least) * 0.08).max(most * 0.04);
    let mut chart =
        ChartBuilder::on(root).margin(14).x_label_area_size(44).y_label_area_size(76).build_cartesian_2d(
            (least - room).max(0.0)..most + 1.5 * room,
            (close / 2.0..far * 2.0).log_scale(),
        )?;
    let text = |size: f64| (FONT, size).into_font().color(&INK);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(text(13.0))
        .x_desc("file, MB")
        .y_desc("mean KL divergence, nats per token (log scale)")
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    let mut along: Vec<&Trial> = trials.iter().collect();
    along.sort_by_key(|trial| trial.summary.bytes);
    chart.draw_series(LineSeries::new(along.iter().map(|t| (t.megabytes(), kl(t))), OTHER.mix(0.35)))?;
    for (index, trial) in trials.iter().enumerate() {
        let colour = if index == 0 { REQUESTED } else { OTHER };
        let place = (trial.megabytes(), kl(trial));
        let label = text(14.0).color(&colour).pos(Pos::new(HPos::Left, VPos::Bottom));
        let point = EmptyElement::at(place)
            + Circle::new((0, 0), 5, colour.filled())
            + Text::new(trial.recipe.clone(), (8, -5), label);
        chart.draw_series(std::iter::once(point))?;
    }
    root.present()
}

/// A tick of a logarithmic axis.
fn short(value: f64) -> String {
    if value >= 0.001 { format!("{value}") } else { format!("{value:.0e}") }
}

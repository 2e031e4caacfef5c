//! Axes of a plot: range, ticks, and labels.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::{Range, RangeInclusive};

/// One direction of a panel.
#[derive(Clone, Debug)]
pub(in crate::report) struct Axis {
    /// Smallest and largest value that is shown.
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Values with a tick, ascending.
    ticks: Vec<f64>,
}

impl Axis {
    /// From `low` to `high` in equal steps, about `ticks` of them. An empty range is widened.
    pub(in crate::report) fn linear(low: f64, high: f64, ticks: usize) -> Axis {
        let high = if high > low { high } else { low + low.abs().max(1e-9) };
        Axis { low, high, logarithmic: false, ticks: round_steps(low, high, ticks) }
    }

    /// From 0 to `high` in steps of whole numbers, about `ticks` of them.
    pub(in crate::report) fn counts(high: f64, ticks: usize) -> Axis {
        let mut axis = Axis::linear(0.0, high.max(1.0), ticks);
        axis.ticks.retain(|tick| tick.fract() == 0.0);
        axis
    }

    /// From `low` to `high`, both positive, in equal ratios, with at most `ticks` ticks where the range is wide.
    pub(in crate::report) fn logarithmic(low: f64, high: f64, ticks: usize) -> Axis {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low * 1.01 { high } else { low * 1.01 };
        let sets: [&[f64]; 5] = [
            &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
            &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            &[1.0, 2.0, 5.0],
            &[1.0, 3.0],
            &[1.0],
        ];
        let ticks = if high / low < 1.6 {
            round_steps(low, high, ticks)
        } else {
            let mut inside = Vec::new();
            for set in sets {
                inside = decades(low, high, set);
                if inside.len() <= ticks {
                    break;
                }
            }
            let every = inside.len().div_ceil(2 * ticks.max(1)).max(1);
            inside.into_iter().step_by(every).collect()
        };
        Axis { low, high, logarithmic: true, ticks }
    }

    /// Whether the scale is logarithmic.
    pub(in crate::report) fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Smallest and largest value that is shown.
    pub(in crate::report) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Values with a tick, ascending.
    pub(in crate::report) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Where a value lies, 0 at the low end and 1 at the high one; values beyond the range are clamped.
    pub(in crate::report) fn share(&self, value: f64) -> f64 {
        let (low, high) = (self.scaled(self.low), self.scaled(self.high));
        (self.scaled(value.clamp(self.low, self.high)) - low) / (high - low)
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.logarithmic { value.ln() } else { value }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    /// Values beyond the range are clamped.
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.share(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten within the range, about `count` of them.
fn round_steps(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough * 0.8);
    let step = step.unwrap_or(10.0 * power);
    let indices: RangeInclusive<i64> =
        (low / step - 1e-6).ceil() as i64..=(high / step + 1e-6).floor() as i64;
    indices.map(|index| index as f64 * step).collect()
}

/// `mantissas` times every power of ten, within the range.
fn decades(low: f64, high: f64, mantissas: &[f64]) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| mantissas.iter().map(move |mantissa| mantissa * 10_f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A value with no more digits than it needs: `0`, `3e-4`, `0.25`, `4.5`, `1,200`.
pub(in crate::report) fn plain(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        "0".into()
    } else if !(1e-2..1e6).contains(&size) {
        // As many digits as the value has, but none that binary fractions add.
        let text = format!("{value:.3e}");
        match text.split_once('e') {
            Some((digits, power)) => format!("{}e{power}", without_zeros(digits)),
            None => text,
        }
    } else if size >= 1000.0 {
        crate::units::grouped(value.round() as u64)
    } else {
        without_zeros(&format!("{value:.4}")).into()
    }
}

/// A count in thousands, millions and so on: `500K`, `1.5B`.
pub(in crate::report) fn short_count(value: f64) -> String {
    let (divisor, unit) = match value {
        value if value >= 0.9995e12 => (1e12, "T"),
        value if value >= 0.9995e9 => (1e9, "B"),
        value if value >= 0.9995e6 => (1e6, "M"),
        value if value >= 0.9995e3 => (1e3, "K"),
        _ => (1.0, ""),
    };
    format!("{}{unit}", without_zeros(&format!("{:.3}", value / divisor)))
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().copied().map(plain).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(labels(&Axis::linear(0.0, 3.15e-4, 4)), ["0", "1e-4", "2e-4", "3e-4"]);
        assert_eq!(
            labels(&Axis::linear(0.0, 4000.0, 8)),
            ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000", "3,500", "4,000"]
        );
        assert_eq!(labels(&Axis::logarithmic(3.2, 11.0, 8)), ["4", "5", "6", "8", "10"]);
        assert_eq!(labels(&Axis::logarithmic(3.31, 3.62, 6)), ["3.35", "3.4", "3.45", "3.5", "3.55", "3.6"]);
        assert_eq!(labels(&Axis::logarithmic(0.002, 900.0, 7)), ["0.01", "0.1", "1", "10", "100"]);
    }

    #[test]
    fn a_flat_curve_has_an_axis() {
        for axis in [Axis::linear(0.0, 0.0, 4), Axis::linear(2.0, 2.0, 4), Axis::logarithmic(2.0, 2.0, 4)] {
            let (low, high) = axis.ends();
            assert!(low < high && low.is_finite() && high.is_finite(), "{axis:?}");
            assert!(axis.ticks.len() < 20, "{axis:?}");
        }
    }

    #[test]
    fn counts_are_short() {
        let counts = [0.0, 950.0, 1000.0, 262_144.0, 999_999.0, 2.5e9, 3.06e10].map(short_count);
        assert_eq!(counts, ["0", "950", "1K", "262.144K", "1M", "2.5B", "30.6B"]);
    }
}

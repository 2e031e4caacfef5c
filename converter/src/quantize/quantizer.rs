//! Scales and codes of a row, for every quantized encoding.

use super::grid::Grid;
use super::group_scale::GroupScale;
use super::recover;
use crate::pack::{self, Group};
use half::f16;
#[cfg(feature = "calibrate")]
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, GROUP, WeightScales};

/// Quantizes rows of one encoding.
#[derive(Clone, Copy)]
pub(crate) struct Quantizer {
    encoding: Encoding,
    grid: &'static Grid,
}

/// The scales of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowScales {
    /// The row's scale, if the encoding has one; zero for a row of zeros.
    pub(crate) row_scale: f32,
    /// The ideal scale of each group, if the encoding has two-level scales.
    pub(crate) scales: Vec<f32>,
}

impl Quantizer {
    /// The quantizer of an encoding; `None` for floats.
    pub(crate) fn new(encoding: Encoding) -> Option<Quantizer> {
        encoding.is_quantized().then(|| Quantizer { encoding, grid: Grid::of(encoding) })
    }

    /// Chooses the scales of a row. `weights` weight the errors of its columns.
    pub(crate) fn row_scales(&self, row: &[f32], weights: &[f32]) -> RowScales {
        match self.encoding.layout().scales {
            WeightScales::Row => {
                RowScales { row_scale: largest(row) / self.grid.ends().1, scales: Vec::new() }
            }
            WeightScales::TwoLevel => {
                let groups = row.chunks(GROUP).zip(weights.chunks(GROUP));
                let scales: Vec<f32> =
                    groups.map(|(values, weights)| self.grid.scale(values, weights)).collect();
                RowScales { row_scale: largest(&scales) / 127.0, scales }
            }
            _ => RowScales { row_scale: 0.0, scales: Vec::new() },
        }
    }

    /// Chooses the scale of a group from its values; `None` if it is too large to store.
    pub(crate) fn group_scale(
        &self,
        shared: &RowScales,
        values: &[f32],
        weights: &[f32],
    ) -> Option<GroupScale> {
        let layout = self.encoding.layout();
        let (scale, minimum) = match layout.scales {
            WeightScales::TwoLevel => {
                return Some(self.nearest_scale(shared, self.grid.scale(values, weights), values, weights));
            }
            WeightScales::None | WeightScales::Row => {
                return Some(GroupScale::new(shared.row_scale, 0.0, 0));
            }
            // With 8 bits, a search gains nothing.
            WeightScales::Group if layout.bits() == 8 => {
                (f16::from_f32(largest(values) / self.grid.ends().1), f16::ZERO)
            }
            WeightScales::Group => (self.f16_scale(values, weights), f16::ZERO),
            WeightScales::GroupAndMinimum => with_minimum(self.grid.ends().1, values, weights),
        };
        let fit = GroupScale::new(scale.to_f32(), minimum.to_f32(), 0);
        (scale.is_finite() && minimum.is_finite()).then_some(fit)
    }

    /// The best scale after rounding to f16: the result of the search, or one that maps the largest value to an end of
    /// the grid, which is exact for groups with few distinct values.
    fn f16_scale(&self, values: &[f32], weights: &[f32]) -> f16 {
        let most = values.iter().copied().fold(0.0f32, |most, v| if v.abs() > most.abs() { v } else { most });
        let (low, high) = self.grid.ends();
        let mut best = (f64::INFINITY, f16::from_f32(self.grid.scale(values, weights)));
        for scale in [best.1, f16::from_f32(most / low), f16::from_f32(most / high)] {
            let error = self.error(&GroupScale::new(scale.to_f32(), 0.0, 0), values, weights);
            if error < best.0 {
                best = (error, scale);
            }
        }
        best.1
    }

    /// The scale of group `group` of the row with these scales.
    pub(crate) fn planned_scale(
        &self,
        shared: &RowScales,
        group: usize,
        values: &[f32],
        weights: &[f32],
    ) -> Option<GroupScale> {
        match shared.scales.get(group) {
            Some(&scale) => Some(self.nearest_scale(shared, scale, values, weights)),
            None => self.group_scale(shared, values, weights),
        }
    }

    /// The best storable scale near the wanted one.
    fn nearest_scale(&self, shared: &RowScales, wanted: f32, values: &[f32], weights: &[f32]) -> GroupScale {
        if shared.row_scale == 0.0 || wanted == 0.0 {
            return GroupScale::new(0.0, 0.0, 0);
        }
        let middle = (wanted / shared.row_scale).round();
        let mut best = (f64::INFINITY, GroupScale::new(0.0, 0.0, 0));
        for multiplier in [middle, middle - 1.0, middle + 1.0] {
            let multiplier = multiplier.clamp(-127.0, 127.0) as i8;
            let fit = GroupScale::new(shared.row_scale * f32::from(multiplier), 0.0, multiplier);
            let error = self.error(&fit, values, weights);
            if error < best.0 {
                best = (error, fit);
            }
        }
        best.1
    }

    /// The weighted sum of squared errors of a group's values.
    fn error(&self, fit: &GroupScale, values: &[f32], weights: &[f32]) -> f64 {
        let off = |v: f32| f64::from(v - self.value(fit, self.code(fit, v)));
        values.iter().zip(weights).map(|(&v, &w)| f64::from(w) * off(v).powi(2)).sum()
    }

    /// The code whose value is nearest.
    #[inline]
    pub(crate) fn code(&self, fit: &GroupScale, value: f32) -> u8 {
        let code = self.grid.code((value - fit.minimum) * fit.inverse());
        // Keeps the range symmetric.
        if self.encoding.layout().scales == WeightScales::Row { code.max(1) } else { code }
    }

    /// The level that a value rounds to.
    #[inline]
    pub(super) fn level(&self, fit: &GroupScale, value: f32) -> f32 {
        self.grid.level(self.code(fit, value))
    }

    /// What the encoding's levels are multiplied by.
    pub(super) fn scales(&self) -> WeightScales {
        self.encoding.layout().scales
    }

    /// The value of a code.
    #[inline]
    pub(crate) fn value(&self, fit: &GroupScale, code: u8) -> f32 {
        fit.scale * self.grid.level(code) + fit.minimum
    }

    /// The mean distance between a number with this scale and the next.
    pub(super) fn mean_step(&self, fit: &GroupScale) -> f32 {
        fit.scale.abs() * self.grid.mean_step()
    }

    /// Writes the row's scale, if the encoding has one.
    pub(crate) fn put_row_scale(&self, panel: &mut [u8], row: usize, shared: &RowScales) {
        if self.encoding.panel_header() != 0 {
            pack::put_row_scale(panel, row, shared.row_scale);
        }
    }

    /// Writes the codes and the scale of one group of a row.
    pub(crate) fn put_group(&self, block: &mut [u8], row: usize, codes: &[u8; GROUP], fit: &GroupScale) {
        match self.encoding.layout().scales {
            WeightScales::TwoLevel => {
                pack::put_two_level_group(self.encoding, block, row, codes, fit.multiplier());
            }
            WeightScales::None | WeightScales::Row => pack::put_codes(self.encoding, block, row, codes),
            WeightScales::Group | WeightScales::GroupAndMinimum => {
                let (scale, minimum) = (f16::from_f32(fit.scale), f16::from_f32(fit.minimum));
                pack::put_group(self.encoding, block, row, &Group { codes: *codes, scale, minimum });
            }
        }
    }

    /// Whether every row of a matrix lies on the encoding's grid, so that storing it changes no number.
    #[cfg(feature = "calibrate")]
    pub(crate) fn holds(&self, matrix: &[f32], columns: usize) -> bool {
        matrix.par_chunks(columns.max(1)).all(|row| recover::grid(self.encoding, self.grid, row).is_some())
    }

    /// Writes a row that lies on the encoding's grid with the very scales of that grid; `None` if it lies on none.
    pub(crate) fn store_row(&self, panel: &mut [u8], row: usize, values: &[f32]) -> Option<()> {
        let grid = recover::grid(self.encoding, self.grid, values)?;
        if self.encoding.panel_header() != 0 {
            pack::put_row_scale(panel, row, grid.row_scale);
        }
        let blocks = panel[self.encoding.panel_header()..].chunks_exact_mut(self.encoding.block_bytes());
        for ((block, values), fit) in blocks.zip(values.chunks(GROUP)).zip(&grid.groups) {
            self.put_values(block, row, values, fit);
        }
        Some(())
    }

    /// Writes one group of a row, each value as its nearest code.
    fn put_values(&self, block: &mut [u8], row: usize, values: &[f32], fit: &GroupScale) {
        let mut codes = [self.encoding.layout().padding_code(); GROUP];
        codes.iter_mut().zip(values).for_each(|(code, &value)| *code = self.code(fit, value));
        self.put_group(block, row, &codes, fit);
    }

    /// Rounds a row to nearest into its panel; `None` if a scale is too large for the encoding.
    pub(crate) fn quantize_row(&self, panel: &mut [u8], row: usize, values: &[f32]) -> Option<()> {
        let weights = vec![1.0; values.len()];
        let shared = self.row_scales(values, &weights);
        self.put_row_scale(panel, row, &shared);
        let blocks = &mut panel[self.encoding.panel_header()..];
        let groups = values.chunks(GROUP).zip(weights.chunks(GROUP));
        for (group, (block, (values, weights))) in
            blocks.chunks_exact_mut(self.encoding.block_bytes()).zip(groups).enumerate()
        {
            let fit = self.planned_scale(&shared, group, values, weights)?;
            self.put_values(block, row, values, &fit);
        }
        Some(())
    }
}

/// The largest magnitude.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}

/// Scale and minimum of uniform levels from 0 to `last`: the best of several ranges, each refined by weighted least squares.
fn with_minimum(last: f32, values: &[f32], weights: &[f32]) -> (f16, f16) {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let heaviest = weights.iter().fold(0.0f32, |most, &w| most.max(w));
    let weight = |i: usize| if heaviest > 0.0 { f64::from(weights[i] / heaviest) } else { 1.0 };
    let mut best = (f64::INFINITY, (f16::INFINITY, f16::ZERO));
    for shrink in [-0.03f32, 0.0, 0.03, 0.06, 0.09, 0.13, 0.17] {
        let margin = (high - low) * shrink / 2.0;
        let mut minimum = f16::from_f32(low + margin);
        let mut scale = f16::from_f32((high - low - 2.0 * margin) / last);
        for _ in 0..3 {
            let fit = GroupScale::new(scale.to_f32(), minimum.to_f32(), 0);
            let mut error = 0.0f64;
            let [mut count, mut sum_code, mut sum_square, mut sum_value, mut sum_product] = [0.0f64; 5];
            for (i, &value) in values.iter().enumerate() {
                let code = ((value - fit.minimum) * fit.inverse()).round().clamp(0.0, last);
                let (value, code, weight) = (f64::from(value), f64::from(code), weight(i));
                error += weight * (value - (code * f64::from(fit.scale) + f64::from(fit.minimum))).powi(2);
                count += weight;
                sum_code += weight * code;
                sum_square += weight * code * code;
                sum_value += weight * value;
                sum_product += weight * value * code;
            }
            if error < best.0 {
                best = (error, (scale, minimum));
            }
            let determinant = count * sum_square - sum_code * sum_code;
            if determinant <= 0.0 {
                break;
            }
            let slope = (count * sum_product - sum_code * sum_value) / determinant;
            scale = f16::from_f64(slope);
            minimum = f16::from_f64((sum_value - slope * sum_code) / count);
        }
    }
    best.1
}

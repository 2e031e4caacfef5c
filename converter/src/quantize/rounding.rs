//! Rounding with the scales of a stored matrix, which may follow the weights: what training for an encoding sees.

use super::group_scale::GroupScale;
use super::quantizer::Quantizer;
use crate::pack;
use half::f16;
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, GROUP, PANEL, WeightScales};

/// Rows of one task.
const ROWS: usize = 16;

/// The scales of a stored matrix, with which rounding is a function of the weights alone.
///
/// Rounded weights are the numbers that a reader of the file sees, and storing them again gives the same numbers.
#[derive(Clone)]
pub struct MatrixRounding {
    quantizer: Quantizer,
    columns: usize,
    /// Columns that share a scale.
    span: usize,
    /// Of each row, for encodings that have them.
    row_scales: Vec<f32>,
    /// Of each span, row by row.
    scales: Vec<GroupScale>,
    /// The line of each span's first weights; empty where scales do not follow.
    first: Vec<Line>,
}

/// `scale x level + minimum`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line {
    scale: f32,
    minimum: f32,
}

impl MatrixRounding {
    /// The scales of a tensor's bytes in a `.thimble` file; `None` if the encoding has none, or the bytes are too short.
    pub fn of_stored(
        encoding: Encoding,
        stored: &[u8],
        rows: usize,
        columns: usize,
    ) -> Option<MatrixRounding> {
        let quantizer = Quantizer::new(encoding)?;
        if columns == 0 || stored.len() < encoding.tensor_bytes(rows, columns)? {
            return None;
        }
        let span = if encoding.layout().scales == WeightScales::Row { columns } else { GROUP };
        let panel_bytes = encoding.panel_bytes(columns)?;
        let mut row_scales = Vec::new();
        let mut scales = Vec::with_capacity(rows * columns.div_ceil(span));
        for row in 0..rows {
            let panel = &stored[row / PANEL * panel_bytes..][..panel_bytes];
            let (header, blocks) = panel.split_at(encoding.panel_header());
            if !header.is_empty() {
                row_scales.push(pack::f32_at(header, row % PANEL * 4));
            }
            let row_scale = row_scales.last().copied().unwrap_or_default();
            let blocks = blocks.chunks_exact(encoding.block_bytes()).take(columns.div_ceil(span));
            scales.extend(blocks.map(|block| stored_scale(encoding, row_scale, block, row % PANEL)));
        }
        Some(MatrixRounding { quantizer, columns, span, row_scales, scales, first: Vec::new() })
    }

    /// Lets the scales follow from these weights on, which round with the stored ones: where all weights of a span grow
    /// a little, so does its scale. The slice holds the matrix, row by row.
    ///
    /// A scale changes by as much as that of a line through the span's weights over their levels, and is rounded to what
    /// the encoding stores. Where there is a minimum, that follows instead.
    pub fn follow(&mut self, weights: &[f32]) {
        let rows = weights.par_chunks(self.columns).zip(self.scales.par_chunks(self.per_row()));
        let lines = rows.with_min_len(ROWS).flat_map_iter(|(weights, scales)| {
            weights.chunks(self.span).zip(scales).map(|(weights, scale)| self.line(scale, weights))
        });
        self.first = lines.collect();
    }

    /// The mean distance between a number that is stored and the next.
    pub fn mean_step(&self) -> f32 {
        let sum: f64 = self.scales.iter().map(|scale| f64::from(self.quantizer.mean_step(scale))).sum();
        (sum / self.scales.len().max(1) as f64) as f32
    }

    /// Rounds each weight to the nearest number of its span. Both slices hold the matrix, row by row.
    pub fn round(&self, weights: &[f32], rounded: &mut [f32]) {
        let rows = weights.par_chunks(self.columns).zip(rounded.par_chunks_mut(self.columns)).enumerate();
        rows.with_min_len(ROWS).for_each(|(row, (weights, rounded))| {
            let parts = weights.chunks(self.span).zip(rounded.chunks_mut(self.span)).enumerate();
            for (index, (weights, rounded)) in parts {
                let scale = self.scale(row, index, weights);
                for (&weight, rounded) in weights.iter().zip(rounded) {
                    *rounded = self.quantizer.value(&scale, self.quantizer.code(&scale, weight));
                }
            }
        });
    }

    fn per_row(&self) -> usize {
        self.columns.div_ceil(self.span)
    }

    /// The scale of a span of a row with these weights.
    fn scale(&self, row: usize, index: usize, weights: &[f32]) -> GroupScale {
        let place = row * self.per_row() + index;
        let stored = self.scales[place];
        let Some(first) = self.first.get(place) else { return stored };
        let line = self.line(&stored, weights);
        let scale = stored.scale + (line.scale - first.scale);
        let minimum = stored.minimum + (line.minimum - first.minimum);
        let row_scale = self.row_scales.get(row).copied().unwrap_or_default();
        let found = self.quantizer.nearest_storable(scale, minimum, row_scale);
        found.filter(|_| stored.scale != 0.0).unwrap_or(stored)
    }

    /// The line through the weights over the levels that they round to: of least squares through 0, or, for encodings
    /// with a minimum, of their mean with the stored scale. Both parts together would be as unsteady as the levels of a
    /// span are close to each other.
    fn line(&self, scale: &GroupScale, weights: &[f32]) -> Line {
        let with_minimum = self.quantizer.scales() == WeightScales::GroupAndMinimum;
        let [mut square, mut product, mut rest] = [0.0f32; 3];
        for &weight in weights {
            let level = self.quantizer.level(scale, weight);
            square += level * level;
            product += level * weight;
            rest += weight - level * scale.scale;
        }
        match with_minimum {
            true => Line { scale: 0.0, minimum: rest / weights.len() as f32 },
            false if square > 0.0 => Line { scale: product / square, minimum: 0.0 },
            false => Line::default(),
        }
    }
}

/// The scale of one row of a block.
fn stored_scale(encoding: Encoding, row_scale: f32, block: &[u8], row: usize) -> GroupScale {
    let scales = &block[encoding.layout().code_bytes()..];
    match encoding.layout().scales {
        WeightScales::None | WeightScales::Row => GroupScale::new(row_scale, 0.0, 0),
        WeightScales::Group => GroupScale::new(pack::f16_at(scales, 2 * row), 0.0, 0),
        WeightScales::GroupAndMinimum => {
            GroupScale::new(pack::f16_at(scales, 2 * row), pack::f16_at(scales, 2 * (PANEL + row)), 0)
        }
        WeightScales::TwoLevel => {
            let multiplier = scales[row] as i8;
            GroupScale::new(row_scale * f32::from(multiplier), 0.0, multiplier)
        }
    }
}

impl Quantizer {
    /// The scale nearest to the wanted one that the encoding stores, in a row of this scale; `None` if it is too large.
    fn nearest_storable(&self, scale: f32, minimum: f32, row_scale: f32) -> Option<GroupScale> {
        let halves = [scale, minimum].map(f16::from_f32);
        let found = match self.scales() {
            WeightScales::None | WeightScales::Row => GroupScale::new(scale, 0.0, 0),
            WeightScales::Group => GroupScale::new(halves[0].to_f32(), 0.0, 0),
            WeightScales::GroupAndMinimum => GroupScale::new(halves[0].to_f32(), halves[1].to_f32(), 0),
            WeightScales::TwoLevel if row_scale == 0.0 => return None,
            WeightScales::TwoLevel => {
                let multiplier = (scale / row_scale).round().clamp(-127.0, 127.0) as i8;
                GroupScale::new(row_scale * f32::from(multiplier), 0.0, multiplier)
            }
        };
        (found.scale.is_finite() && found.minimum.is_finite()).then_some(found)
    }
}

//! Rounding with given scales: what training for an encoding sees.

use super::Quantizer;
use super::quantizer::GroupScale;
use crate::pack;
use rayon::prelude::*;
use thimble_runtime::format::{Encoding, GROUP, PANEL, WeightScales};

/// The scales of a stored matrix, with which rounding is a function of each weight alone.
///
/// Rounded weights are the numbers that a reader of the file sees, and storing them again gives the same numbers.
#[derive(Clone)]
pub struct MatrixRounding {
    quantizer: Quantizer,
    columns: usize,
    /// Row by row.
    groups: Vec<GroupScale>,
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
        let panel_bytes = encoding.panel_bytes(columns)?;
        let mut groups = Vec::with_capacity(rows * columns.div_ceil(GROUP));
        for row in 0..rows {
            let panel = &stored[row / PANEL * panel_bytes..][..panel_bytes];
            let (header, blocks) = panel.split_at(encoding.panel_header());
            for block in blocks.chunks_exact(encoding.block_bytes()) {
                groups.push(stored_scale(encoding, header, block, row % PANEL));
            }
        }
        Some(MatrixRounding { quantizer, columns, groups })
    }

    /// Moves each weight into the cell of what is stored for it, the numbers that round to it, and no nearer to the cell's
    /// end than a tenth of its half width. Both slices hold the matrix, row by row.
    ///
    /// So training starts with what a calibrated conversion stored, and knows which weights are nearly rounded otherwise.
    pub fn move_into_cells(&self, stored: &[f32], weights: &mut [f32]) {
        let per_row = self.columns.div_ceil(GROUP);
        let rows = stored.par_chunks(self.columns).zip(weights.par_chunks_mut(self.columns));
        rows.zip(self.groups.par_chunks(per_row)).with_min_len(16).for_each(|((stored, weights), groups)| {
            let parts = stored.chunks(GROUP).zip(weights.chunks_mut(GROUP)).zip(groups);
            for ((stored, weights), fit) in parts {
                for (&stored, weight) in stored.iter().zip(weights) {
                    *weight = self.quantizer.into_cell(fit, stored, *weight);
                }
            }
        });
    }

    /// Rounds each weight to the nearest number of its group. Both slices hold the matrix, row by row.
    pub fn round(&self, weights: &[f32], rounded: &mut [f32]) {
        let per_row = self.columns.div_ceil(GROUP);
        let rows = weights.par_chunks(self.columns).zip(rounded.par_chunks_mut(self.columns));
        rows.zip(self.groups.par_chunks(per_row)).with_min_len(16).for_each(
            |((weights, rounded), groups)| {
                let parts = weights.chunks(GROUP).zip(rounded.chunks_mut(GROUP)).zip(groups);
                for ((weights, rounded), fit) in parts {
                    for (&weight, rounded) in weights.iter().zip(rounded) {
                        *rounded = self.quantizer.value(fit, self.quantizer.code(fit, weight));
                    }
                }
            },
        );
    }
}

/// The scale of one row of a block.
fn stored_scale(encoding: Encoding, header: &[u8], block: &[u8], row: usize) -> GroupScale {
    let scales = &block[encoding.layout().code_bytes()..];
    match encoding.layout().scales {
        WeightScales::None => GroupScale::new(1.0, 0.0, 0),
        WeightScales::Row => GroupScale::new(pack::f32_at(header, 4 * row), 0.0, 0),
        WeightScales::Group => GroupScale::new(pack::f16_at(scales, 2 * row), 0.0, 0),
        WeightScales::GroupAndMinimum => {
            GroupScale::new(pack::f16_at(scales, 2 * row), pack::f16_at(scales, 2 * (PANEL + row)), 0)
        }
        WeightScales::TwoLevel => {
            let multiplier = scales[row] as i8;
            GroupScale::new(pack::f32_at(header, 4 * row) * f32::from(multiplier), 0.0, multiplier)
        }
    }
}

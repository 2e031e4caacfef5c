//! Encodes rows of the source as panels: exactly if the source has the encoding's grid, otherwise rounded.

mod grid;
mod group_scale;
mod quantizer;
mod recover;
mod rounding;

pub(crate) use quantizer::Quantizer;
pub use rounding::MatrixRounding;

use crate::ConvertError;
use crate::dequantize::{Codes, codes, dequantize};
use crate::pack::{self, Group};
use crate::read::BlockType;
use half::f16;
use thimble_runtime::format::{Encoding, PANEL};

/// Why a row cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// A weight or scale is infinite or not a number.
    NotFinite {
        /// Row, counted from the first one given.
        row: usize,
    },
    /// A weight or scale is too large for the encoding.
    TooLarge {
        /// Row, counted from the first one given.
        row: usize,
    },
}

impl RowError {
    /// Adds the tensor's name, the number of the first row given, and the encoding or type to store.
    pub(crate) fn in_tensor(self, name: &str, first: usize, format: impl Into<String>) -> ConvertError {
        let name = name.to_owned();
        match self {
            RowError::NotFinite { row } => ConvertError::NotFinite { name, row: first + row },
            RowError::TooLarge { row } => {
                ConvertError::TooLarge { name, row: first + row, format: format.into() }
            }
        }
    }
}

/// The distortion that rounding causes, as sums of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distortion {
    /// Sum of squared errors.
    pub error: f64,
    /// Sum of squared weights.
    pub energy: f64,
}

impl Distortion {
    /// Root mean square error, relative to the root mean square of the weights.
    pub fn relative(self) -> f64 {
        if self.energy > 0.0 { (self.error / self.energy).sqrt() } else { 0.0 }
    }

    /// The distortion of storing `weights` as `stored`.
    pub fn between(weights: &[f32], stored: &[f32]) -> Distortion {
        let mut distortion = Distortion::default();
        for (&weight, &stored) in weights.iter().zip(stored) {
            distortion.error += f64::from(weight - stored).powi(2);
            distortion.energy += f64::from(weight).powi(2);
        }
        distortion
    }

    /// Adds the distortion of other weights.
    pub fn add(&mut self, other: Distortion) {
        self.error += other.error;
        self.energy += other.energy;
    }
}

/// A quantized tensor.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedTensor {
    /// Its bytes in the file.
    pub(crate) bytes: Vec<u8>,
    /// Its distortion.
    pub(crate) distortion: Distortion,
}

/// Rows of the source as blocks.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The type of the blocks.
    pub kind: BlockType,
    /// Whole rows.
    pub bytes: &'a [u8],
    /// Numbers in a row.
    pub columns: usize,
}

/// Encodes up to 16 rows as one panel of a matrix; missing rows become zero.
///
/// `panel` has [`Encoding::panel_bytes`] bytes.
pub fn encode_panel(encoding: Encoding, rows: Rows<'_>, panel: &mut [u8]) -> Result<Distortion, RowError> {
    pack::clear(encoding, panel);
    let row_bytes = rows.kind.row_bytes(rows.columns).unwrap_or(0).max(1);
    let quantizer = Quantizer::new(encoding);
    let exact = !rows.kind.rounds(encoding);
    let mut distortion = Distortion::default();
    let mut values = vec![0.0; rows.columns];
    let mut stored = vec![0.0; if exact { 0 } else { rows.columns }];
    for (row, bytes) in rows.bytes.chunks_exact(row_bytes).enumerate().take(PANEL) {
        dequantize(rows.kind, bytes, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(RowError::NotFinite { row });
        }
        if quantizer.is_some() && exact {
            copy_codes(encoding, rows.kind, bytes, panel, row);
            continue;
        }
        match quantizer {
            Some(quantizer) => {
                // Rows that were trained for the encoding are on its grid, and stay where they are.
                let stored = quantizer.store_row(panel, row, &values);
                stored
                    .or_else(|| quantizer.quantize_row(panel, row, &values))
                    .ok_or(RowError::TooLarge { row })?
            }
            None => pack::put_floats(encoding, panel, row, &values),
        }
        if !exact {
            // The distortion of the numbers that a reader sees.
            pack::unpack_row(encoding, panel, row, &mut stored).ok_or(RowError::TooLarge { row })?;
            if stored.iter().any(|stored| !stored.is_finite()) {
                return Err(RowError::TooLarge { row });
            }
            distortion.add(Distortion::between(&values, &stored));
        }
    }
    Ok(distortion)
}

/// Copies one row of blocks into a panel of the encoding with the same codes and scales.
fn copy_codes(encoding: Encoding, kind: BlockType, row_bytes: &[u8], panel: &mut [u8], row: usize) {
    let f16_at = |bytes: &[u8], at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let zero = encoding.layout().padding_code();
    let source = row_bytes.chunks_exact(kind.block_bytes()).filter_map(|block| codes(kind, block));
    for (Codes { codes, scales }, out) in source.zip(panel.chunks_exact_mut(encoding.block_bytes())) {
        let minimum = if scales.len() == 4 { f16_at(scales, 2) } else { f16::ZERO };
        let codes = codes.map(|code| (code as u8).wrapping_add(zero));
        pack::put_group(encoding, out, row, &Group { codes, scale: f16_at(scales, 0), minimum });
    }
}

#[cfg(test)]
mod tests;

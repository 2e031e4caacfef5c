//! From rows of the source to panels of the file: exact re-arrangement where the source has the encoding's own
//! grid, careful rounding otherwise.

use crate::dequantize::{dequantize, five_bits};
use crate::pack::{self, Group};
use crate::read::BlockType;
use crate::recipe;
use half::f16;
use thimble_runtime::format::{Encoding, GROUP, PANEL};

/// Why a row cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
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

/// What rounding did to some weights: sums of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Of the differences.
    pub error: f64,
    /// Of the weights.
    pub energy: f64,
}

impl Loss {
    /// Root mean square of the differences, relative to that of the weights.
    pub fn relative(self) -> f64 {
        if self.energy > 0.0 { (self.error / self.energy).sqrt() } else { 0.0 }
    }

    /// Adds the loss of other weights.
    pub fn add(&mut self, other: Loss) {
        self.error += other.error;
        self.energy += other.energy;
    }
}

/// Rows of the source, as its own blocks.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The type of the blocks.
    pub kind: BlockType,
    /// Whole rows, one after the other.
    pub bytes: &'a [u8],
    /// Numbers in a row.
    pub columns: usize,
}

/// Encodes up to 16 rows as one panel of a matrix; rows that are not there become zero.
///
/// `panel` has [`Encoding::panel_bytes`] bytes. Returns what rounding cost.
pub fn encode_panel(encoding: Encoding, rows: Rows<'_>, panel: &mut [u8]) -> Result<Loss, Refusal> {
    pack::clear(encoding, panel);
    let row_bytes = rows.kind.row_bytes(rows.columns).unwrap_or(0).max(1);
    let quantized = encoding.block_columns() == GROUP;
    let exact = !recipe::rounds(rows.kind, encoding);
    let mut loss = Loss::default();
    let mut values = vec![0.0; rows.columns];
    let mut stored = vec![0.0; if exact { 0 } else { rows.columns }];
    for (row, bytes) in rows.bytes.chunks_exact(row_bytes).enumerate().take(PANEL) {
        dequantize(rows.kind, bytes, &mut values);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Refusal::NotFinite { row });
        }
        if quantized && exact {
            copy_codes(encoding, rows.kind, bytes, panel, row);
            continue;
        }
        let fits = match encoding {
            Encoding::Q8Row => put_q8_row(panel, row, &values),
            Encoding::Q8 | Encoding::Q4 | Encoding::Q4Min => put_groups(encoding, panel, row, &values),
            _ => {
                pack::put_floats(encoding, panel, row, &values);
                Some(())
            }
        };
        fits.ok_or(Refusal::TooLarge { row })?;
        if !exact {
            // The encodings' own reader measures what a reader will see.
            pack::unpack_row(encoding, panel, row, &mut stored).ok_or(Refusal::TooLarge { row })?;
            for (&value, &stored) in values.iter().zip(&stored) {
                if !stored.is_finite() {
                    return Err(Refusal::TooLarge { row });
                }
                loss.error += f64::from(value - stored).powi(2);
                loss.energy += f64::from(value).powi(2);
            }
        }
    }
    Ok(loss)
}

/// Re-arranges one row of blocks that hold the same codes and scales as the encoding.
fn copy_codes(encoding: Encoding, kind: BlockType, row_bytes: &[u8], panel: &mut [u8], row: usize) {
    let scale = |block: &[u8]| f16::from_le_bytes([block[0], block[1]]);
    let nibbles = |codes: &[u8]| -> [u8; GROUP] {
        std::array::from_fn(|j| if j < 16 { codes[j] & 15 } else { codes[j - 16] >> 4 })
    };
    let source = row_bytes.chunks_exact(kind.block_bytes());
    for (block, out) in source.zip(panel.chunks_exact_mut(encoding.block_bytes())) {
        let (codes, minimum) = match kind {
            BlockType::Q4_1 => (nibbles(&block[4..]), f16::from_le_bytes([block[2], block[3]])),
            BlockType::Q4_0 => (nibbles(&block[2..]), f16::ZERO),
            BlockType::Q5_0 => (five_bits(&block[2..6], &block[6..]).map(|q| q + (128 - 16)), f16::ZERO),
            _ => (std::array::from_fn(|j| block[2 + j].wrapping_add(128)), f16::ZERO),
        };
        pack::put_group(encoding, out, row, &Group { codes, scale: scale(block), minimum });
    }
}

/// Quantizes a row with one scale; `None` never happens for finite weights.
fn put_q8_row(panel: &mut [u8], row: usize, values: &[f32]) -> Option<()> {
    let scale = largest(values) / 127.0;
    pack::put_row_scale(panel, row, scale);
    let blocks = &mut panel[Encoding::Q8Row.panel_header()..];
    for (block, values) in blocks.chunks_exact_mut(Encoding::Q8Row.block_bytes()).zip(values.chunks(GROUP)) {
        let codes = codes(values, scale, 0.0, 128, 1..=255);
        pack::put_codes(Encoding::Q8Row, block, row, &codes);
    }
    Some(())
}

/// Quantizes a row in groups; `None` where a scale is too large for f16.
fn put_groups(encoding: Encoding, panel: &mut [u8], row: usize, values: &[f32]) -> Option<()> {
    for (block, values) in panel.chunks_exact_mut(encoding.block_bytes()).zip(values.chunks(GROUP)) {
        let group = match encoding {
            Encoding::Q8 => q8(values),
            Encoding::Q4 => q4(values),
            _ => q4_min(values),
        };
        if !group.scale.is_finite() || !group.minimum.is_finite() {
            return None;
        }
        pack::put_group(encoding, block, row, &group);
    }
    Some(())
}

/// The largest magnitude.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}

/// The nearest code of each value, `zero` standing for `minimum`; missing values get the code `zero`.
fn codes(
    values: &[f32],
    scale: f32,
    minimum: f32,
    zero: i32,
    range: std::ops::RangeInclusive<i32>,
) -> [u8; GROUP] {
    // A scale so small that its inverse overflows cannot tell its codes apart: all of them mean zero.
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let mut codes = [zero as u8; GROUP];
    for (code, &value) in codes.iter_mut().zip(values) {
        let nearest = ((value - minimum) * inverse).round() as i32 + zero;
        *code = nearest.clamp(*range.start(), *range.end()) as u8;
    }
    codes
}

/// 8 bits: the largest magnitude becomes code +-127.
fn q8(values: &[f32]) -> Group {
    let scale = f16::from_f32(largest(values) / 127.0);
    let codes = codes(values, scale.to_f32(), 0.0, 128, 0..=255);
    Group { codes, scale, minimum: f16::ZERO }
}

/// Four bits around code 8: the best of several scales, each improved by least squares.
///
/// The code range is -8 to 7, so the sign of the scale decides which end gets the extra code; both are tried.
fn q4(values: &[f32]) -> Group {
    let most = values.iter().copied().fold(0.0f32, |most, v| if v.abs() > most.abs() { v } else { most });
    let mut best = (f64::INFINITY, Group { codes: [8; GROUP], scale: f16::ZERO, minimum: f16::ZERO });
    // The largest value lands on a code between these: past the end it is clipped, before it the grid is finer
    // than the range needs.
    for end in [-8.9f32, -8.5, -8.2, -8.0, -7.7, -7.4, -7.0, -6.6, 6.6, 7.0, 7.3, 7.6, 8.0] {
        let mut scale = f16::from_f32(most / end);
        for _ in 0..2 {
            let codes = codes(values, scale.to_f32(), 0.0, 8, 0..=15);
            let (mut error, mut product, mut square) = (0.0f64, 0.0f32, 0.0f32);
            for (&value, &code) in values.iter().zip(&codes) {
                let level = f32::from(code) - 8.0;
                error += f64::from(value - level * scale.to_f32()).powi(2);
                product += value * level;
                square += level * level;
            }
            if error < best.0 {
                best = (error, Group { codes, scale, minimum: f16::ZERO });
            }
            if square == 0.0 {
                break;
            }
            scale = f16::from_f32(product / square);
        }
    }
    // Nothing is finite where the scale is too large for f16: say so through the scale.
    if best.0.is_finite() { best.1 } else { Group { scale: f16::INFINITY, ..best.1 } }
}

/// Four bits from a minimum: the best of several ranges, each improved by least squares in scale and minimum.
fn q4_min(values: &[f32]) -> Group {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut best = (f64::INFINITY, Group { codes: [0; GROUP], scale: f16::ZERO, minimum: f16::ZERO });
    for shrink in [-0.03f32, 0.0, 0.03, 0.06, 0.09, 0.13, 0.17] {
        let margin = (high - low) * shrink / 2.0;
        let mut minimum = f16::from_f32(low + margin);
        let mut scale = f16::from_f32((high - low - 2.0 * margin) / 15.0);
        for _ in 0..3 {
            let (step, base) = (scale.to_f32(), minimum.to_f32());
            let codes = codes(values, step, base, 0, 0..=15);
            let mut error = 0.0f64;
            let [mut sum_code, mut sum_square, mut sum_value, mut sum_product] = [0.0f64; 4];
            for (&value, &code) in values.iter().zip(&codes) {
                let (value, code) = (f64::from(value), f64::from(code));
                error += (value - (code * f64::from(step) + f64::from(base))).powi(2);
                sum_code += code;
                sum_square += code * code;
                sum_value += value;
                sum_product += value * code;
            }
            if error < best.0 {
                best = (error, Group { codes, scale, minimum });
            }
            let count = values.len() as f64;
            let determinant = count * sum_square - sum_code * sum_code;
            if determinant <= 0.0 {
                break;
            }
            let slope = (count * sum_product - sum_code * sum_value) / determinant;
            scale = f16::from_f64(slope);
            minimum = f16::from_f64((sum_value - slope * sum_code) / count);
        }
    }
    if best.0.is_finite() { best.1 } else { Group { scale: f16::INFINITY, ..best.1 } }
}

#[cfg(test)]
#[path = "quantize_tests.rs"]
mod tests;

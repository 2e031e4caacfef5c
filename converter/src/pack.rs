//! Packs codes and scales into panels, and unpacks panels to f32.
//!
//! [`BlockLayout`] describes the layouts. No other code of the converter depends on them.

use half::{bf16, f16};
use thimble_runtime::format::{BlockLayout, Encoding, FloatFormat, GROUP, PANEL, WeightCodes, WeightScales};

/// One row of one group as codes, from a quantizer or a lossless import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Unsigned codes.
    pub codes: [u8; GROUP],
    /// Step between two codes.
    pub scale: f16,
    /// Value of code 0, for [`WeightScales::GroupAndMinimum`]; zero otherwise.
    pub minimum: f16,
}

/// Fills a panel with zero-valued rows.
pub fn clear(encoding: Encoding, panel: &mut [u8]) {
    panel.fill(0);
    let zeros = [encoding.layout().padding_code(); GROUP];
    if zeros[0] == 0 {
        return;
    }
    let (_, blocks) = panel.split_at_mut(encoding.panel_header().min(panel.len()));
    for block in blocks.chunks_exact_mut(encoding.block_bytes()) {
        (0..PANEL).for_each(|row| put_codes(encoding, block, row, &zeros));
    }
}

/// Writes `BITS` bits of the codes of one row, from bit `shift` on, to a plane: that many runs of 64 bytes.
fn put_plane<const BITS: usize>(plane: &mut [u8], row: usize, codes: &[u8; GROUP], shift: u32) {
    let (per_byte, mask) = (8 / BITS, u8::MAX >> (8 - BITS));
    for (run, codes) in codes.chunks_exact(4 * per_byte).enumerate() {
        let out = &mut plane[run * 64 + row * 4..][..4];
        for (j, out) in out.iter_mut().enumerate() {
            let part = |i: usize| ((codes[4 * i + j] >> shift) & mask) << (BITS * i);
            *out = (0..per_byte).map(part).fold(0, |byte, part| byte | part);
        }
    }
}

/// The bits of the code of (`row`, `column` below 32) in a plane of `bits` bits per code.
fn plane_at(plane: &[u8], bits: usize, row: usize, column: usize) -> u8 {
    let (per_byte, mask) = (8 / bits, u8::MAX >> (8 - bits));
    let byte = plane[column / (4 * per_byte) * 64 + row * 4 + column % 4];
    (byte >> (bits * (column / 4 % per_byte))) & mask
}

/// Writes one row of a float panel.
pub fn put_floats(encoding: Encoding, panel: &mut [u8], row: usize, values: &[f32]) {
    let WeightCodes::Float(format) = encoding.layout().codes else { return };
    for (column, &value) in panel.chunks_exact_mut(encoding.block_bytes()).zip(values) {
        match format {
            FloatFormat::F16 => column[2 * row..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            FloatFormat::BF16 => column[2 * row..][..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            FloatFormat::F32 => column[4 * row..][..4].copy_from_slice(&value.to_le_bytes()),
        }
    }
}

/// Bytes of a plane of `bits` bits per code.
fn plane_bytes(bits: u32) -> usize {
    PANEL * GROUP * bits as usize / 8
}

/// Writes the codes of one row and group to a block.
pub fn put_codes(encoding: Encoding, block: &mut [u8], row: usize, codes: &[u8; GROUP]) {
    let (mut plane, mut shift) = (block, 0);
    for bits in encoding.layout().planes() {
        match bits {
            1 => put_plane::<1>(plane, row, codes, shift),
            2 => put_plane::<2>(plane, row, codes, shift),
            4 => put_plane::<4>(plane, row, codes, shift),
            8 => put_plane::<8>(plane, row, codes, shift),
            _ => {}
        }
        plane = &mut plane[plane_bytes(bits)..];
        shift += bits;
    }
}

/// The code of (`row`, `column` below 32) in a block.
fn code_at(layout: &BlockLayout, block: &[u8], row: usize, column: usize) -> u8 {
    let [low, high] = layout.planes();
    let code = plane_at(block, low as usize, row, column);
    match high {
        0 => code,
        _ => code | plane_at(&block[plane_bytes(low)..], high as usize, row, column) << low,
    }
}

/// Writes one row of a block with f16 scales ([`WeightScales::Group`] or [`WeightScales::GroupAndMinimum`]).
pub fn put_group(encoding: Encoding, block: &mut [u8], row: usize, group: &Group) {
    put_codes(encoding, block, row, &group.codes);
    let scales = encoding.layout().code_bytes();
    block[scales + 2 * row..][..2].copy_from_slice(&group.scale.to_le_bytes());
    if encoding.layout().scales == WeightScales::GroupAndMinimum {
        let minimums = scales + 2 * PANEL;
        block[minimums + 2 * row..][..2].copy_from_slice(&group.minimum.to_le_bytes());
    }
}

/// Writes one row of a block of an encoding with two-level scales ([`Encoding::has_two_level_scales`]).
pub fn put_two_level_group(encoding: Encoding, block: &mut [u8], row: usize, codes: &[u8; GROUP], scale: i8) {
    put_codes(encoding, block, row, codes);
    block[encoding.layout().code_bytes() + row] = scale as u8;
}

/// Writes the scale of one row to the header of a panel.
pub fn put_row_scale(panel: &mut [u8], row: usize, scale: f32) {
    panel[4 * row..][..4].copy_from_slice(&scale.to_le_bytes());
}

/// Reads one row of a block with f16 scales: the inverse of [`put_group`].
pub(crate) fn read_group(encoding: Encoding, block: &[u8], row: usize) -> Group {
    let layout = encoding.layout();
    let codes = std::array::from_fn(|column| code_at(layout, block, row, column));
    let numbers = &block[layout.code_bytes()..];
    let number = |at: usize| f16::from_le_bytes([numbers[2 * at], numbers[2 * at + 1]]);
    let minimum = match layout.scales {
        WeightScales::GroupAndMinimum => number(PANEL + row),
        _ => f16::ZERO,
    };
    Group { codes, scale: number(row), minimum }
}

pub(crate) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

pub(crate) fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The number at (`row` below the layout's rows, `column`) of a panel.
fn value(layout: &BlockLayout, panel: &[u8], row: usize, column: usize) -> f32 {
    let (index, within) = (column / layout.columns(), column % layout.columns());
    let block = &panel[layout.panel_header() + index * layout.bytes()..];
    if let WeightCodes::Float(format) = layout.codes {
        return match format {
            FloatFormat::F32 => f32_at(block, 4 * row),
            FloatFormat::F16 => f16_at(block, 2 * row),
            FloatFormat::BF16 => bf16::from_le_bytes([block[2 * row], block[2 * row + 1]]).to_f32(),
        };
    }
    let level = f32::from(layout.level(code_at(layout, block, row, within)));
    let scales = &block[layout.code_bytes()..];
    match layout.scales {
        WeightScales::None => level,
        WeightScales::Row => f32_at(panel, 4 * row) * level,
        WeightScales::Group => f16_at(scales, 2 * row) * level,
        WeightScales::GroupAndMinimum => f16_at(scales, 2 * row) * level + f16_at(scales, 2 * (PANEL + row)),
        WeightScales::TwoLevel => f32_at(panel, 4 * row) * f32::from(scales[row] as i8) * level,
    }
}

/// One row of a stored tensor as f32; `None` if the bytes are too short.
///
/// Shape: `out` holds the tensor's columns. Not optimized: for `inspect`, tests and error measurements.
pub fn unpack_row(encoding: Encoding, tensor: &[u8], row: usize, out: &mut [f32]) -> Option<()> {
    let (layout, panel_bytes) = (encoding.layout(), encoding.panel_bytes(out.len())?);
    let start = (row / layout.rows).checked_mul(panel_bytes)?;
    let panel = tensor.get(start..start.checked_add(panel_bytes)?)?;
    for (column, out) in out.iter_mut().enumerate() {
        *out = value(layout, panel, row % layout.rows, column);
    }
    Some(())
}

/// A stored tensor as f32, row-major; `None` if the bytes are too short.
pub fn unpack(encoding: Encoding, tensor: &[u8], rows: usize, columns: usize) -> Option<Vec<f32>> {
    if tensor.len() < encoding.tensor_bytes(rows, columns)? {
        return None;
    }
    let mut out = vec![0.0; rows.checked_mul(columns)?];
    for (row, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        unpack_row(encoding, tensor, row, out)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit `at` of a slice, the lowest first.
    fn bit(bytes: &[u8], at: usize) -> u8 {
        (bytes[at / 8] >> (at % 8)) & 1
    }

    /// Reads a code as `FORMAT.md` words it, bit by bit.
    fn drawn(encoding: Encoding, block: &[u8], row: usize, column: usize) -> u8 {
        let pair = |start: usize| {
            let byte = start + column / 16 * 64 + 4 * row + column % 4;
            let at = 8 * byte + 2 * (column % 16 / 4);
            bit(block, at) | (bit(block, at + 1) << 1)
        };
        let nibble = || {
            let at = 8 * (column / 8 * 64 + 4 * row + column % 4) + if column % 8 < 4 { 0 } else { 4 };
            (0..4).map(|b| bit(block, at + b) << b).sum::<u8>()
        };
        let high = |start: usize| bit(block, 8 * (start + 4 * row + column % 4) + column / 4);
        match encoding {
            Encoding::Q3Nl => pair(0) | (high(128) << 2),
            Encoding::Q5Nl => nibble() | (high(256) << 4),
            Encoding::Q6 => nibble() | (pair(256) << 4),
            _ => nibble(),
        }
    }

    #[test]
    fn codes_lie_where_the_format_draws_them() {
        for encoding in [Encoding::Q3Nl, Encoding::Q4Nl, Encoding::Q5Nl, Encoding::Q6, Encoding::Q4] {
            let count = encoding.layout().levels().count();
            let mut block = vec![0xA5; encoding.block_bytes()];
            let code = |row: usize, column: usize| ((row * 41 + column * 23 + row * column) % count) as u8;
            for row in 0..PANEL {
                put_codes(encoding, &mut block, row, &std::array::from_fn(|column| code(row, column)));
            }
            for row in 0..PANEL {
                for column in 0..GROUP {
                    assert_eq!(drawn(encoding, &block, row, column), code(row, column), "{encoding:?}");
                    assert_eq!(
                        code_at(encoding.layout(), &block, row, column),
                        code(row, column),
                        "{encoding:?}"
                    );
                }
            }
            // The scales begin where the codes end.
            assert!(block[encoding.layout().code_bytes()..].iter().all(|&b| b == 0xA5));
            assert!(
                encoding.block_bytes() - encoding.layout().code_bytes()
                    == if encoding.has_two_level_scales() { PANEL } else { 2 * PANEL }
            );
        }
    }

    #[test]
    fn a_number_is_row_scale_by_group_scale_by_level() {
        for (encoding, expected) in [
            (Encoding::Q3Nl, [11.0 - 64.0, 127.0 - 64.0]),
            (Encoding::Q4Nl, [8.0 - 64.0, 127.0 - 64.0]),
            (Encoding::Q5Nl, [6.0 - 64.0, 127.0 - 64.0]),
            (Encoding::Q6, [-32.0, 31.0]),
        ] {
            let mut panel = vec![0; encoding.panel_bytes(2 * GROUP).unwrap()];
            let last = (encoding.layout().levels().count() - 1) as u8;
            put_row_scale(&mut panel, 3, 0.5);
            let second = encoding.panel_header() + encoding.block_bytes();
            let codes = std::array::from_fn(|column| if column == 7 { 0 } else { last });
            put_two_level_group(encoding, &mut panel[second..], 3, &codes, -6);
            let read = unpack(encoding, &panel, PANEL, 2 * GROUP).unwrap();
            let row = &read[3 * 2 * GROUP..][..2 * GROUP];
            assert_eq!(row[GROUP + 7], -3.0 * expected[0]);
            assert_eq!(row[GROUP + 8], -3.0 * expected[1]);
            assert!(row[..GROUP].iter().all(|&v| v == 0.0));
        }
    }
}

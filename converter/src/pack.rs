//! Packs codes and scales into panels, and unpacks panels to f32.
//!
//! `FORMAT.md` describes the layouts. No other code of the converter depends on them.

use half::{bf16, f16};
use thimble_runtime::format::{Encoding, GROUP, LEVEL_ZERO, LEVELS_3, LEVELS_4, LEVELS_5, PANEL};

/// One row of one group as codes, from a quantizer or a lossless import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Unsigned codes.
    pub codes: [u8; GROUP],
    /// Step between two codes.
    pub scale: f16,
    /// Value of code 0, for [`Encoding::Q4Min`]; zero otherwise.
    pub minimum: f16,
}

/// The code of zero; 0 if the encoding has none.
pub fn zero_code(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => 128,
        Encoding::Q6 => 32,
        Encoding::Q4 => 8,
        _ => 0,
    }
}

/// The quantization levels in ascending order, without scale and minimum; empty for floats.
pub fn levels(encoding: Encoding) -> Vec<i16> {
    let uneven = |levels: &[u8]| levels.iter().map(|&l| i16::from(l) - i16::from(LEVEL_ZERO)).collect();
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => (-128..128).collect(),
        Encoding::Q6 => (-32..32).collect(),
        Encoding::Q4 => (-8..8).collect(),
        Encoding::Q4Min => (0..16).collect(),
        Encoding::Q3Nl => uneven(&LEVELS_3),
        Encoding::Q4Nl => uneven(&LEVELS_4),
        Encoding::Q5Nl => uneven(&LEVELS_5),
        Encoding::Vector | Encoding::F32 | Encoding::F16 | Encoding::BF16 => Vec::new(),
    }
}

/// Fills a panel with zero-valued rows.
pub fn clear(encoding: Encoding, panel: &mut [u8]) {
    panel.fill(0);
    if encoding.block_columns() != GROUP || zero_code(encoding) == 0 {
        return;
    }
    let zeros = [zero_code(encoding); GROUP];
    let (_, blocks) = panel.split_at_mut(encoding.panel_header().min(panel.len()));
    for block in blocks.chunks_exact_mut(encoding.block_bytes()) {
        (0..PANEL).for_each(|row| put_codes(encoding, block, row, &zeros));
    }
}

/// Bytes of codes at the front of a block.
const fn code_bytes(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => PANEL * GROUP,
        Encoding::Q6 => PANEL * GROUP * 6 / 8,
        Encoding::Q5Nl => PANEL * GROUP * 5 / 8,
        Encoding::Q3Nl => PANEL * GROUP * 3 / 8,
        _ => PANEL * GROUP / 2,
    }
}

/// Writes the low nibbles of the codes of one row.
fn put_nibbles(block: &mut [u8], row: usize, codes: &[u8; GROUP]) {
    for (step, eight) in codes.chunks_exact(8).enumerate() {
        let out = &mut block[step * 64 + row * 4..][..4];
        for (j, out) in out.iter_mut().enumerate() {
            *out = (eight[j] & 15) | (eight[j + 4] << 4);
        }
    }
}

/// Writes bit pairs of the codes of one row, from bit `shift` on, as two runs of 64 bytes.
fn put_pairs(runs: &mut [u8], row: usize, codes: &[u8; GROUP], shift: u32) {
    for (run, half) in codes.chunks_exact(16).enumerate() {
        for j in 0..4 {
            let pair = |t: usize| ((half[4 * t + j] >> shift) & 3) << (2 * t);
            runs[run * 64 + row * 4 + j] = (0..4).map(pair).fold(0, |byte, pair| byte | pair);
        }
    }
}

/// Writes bit `shift` of the codes of one row as a run of 64 bytes.
fn put_bits(run: &mut [u8], row: usize, codes: &[u8; GROUP], shift: u32) {
    for j in 0..4 {
        let bit = |t: usize| ((codes[4 * t + j] >> shift) & 1) << t;
        run[row * 4 + j] = (0..8).map(bit).fold(0, |byte, bit| byte | bit);
    }
}

/// Writes one row of a float panel.
pub fn put_floats(encoding: Encoding, panel: &mut [u8], row: usize, values: &[f32]) {
    for (column, &value) in panel.chunks_exact_mut(encoding.block_bytes()).zip(values) {
        match encoding {
            Encoding::F16 => column[2 * row..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            Encoding::BF16 => column[2 * row..][..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => column[4 * row..][..4].copy_from_slice(&value.to_le_bytes()),
        }
    }
}

/// Writes the codes of one row and group to a block.
pub fn put_codes(encoding: Encoding, block: &mut [u8], row: usize, codes: &[u8; GROUP]) {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => {
            for (step, four) in codes.chunks_exact(4).enumerate() {
                block[step * 64 + row * 4..][..4].copy_from_slice(four);
            }
        }
        Encoding::Q3Nl => {
            put_pairs(block, row, codes, 0);
            put_bits(&mut block[128..], row, codes, 2);
        }
        _ => {
            put_nibbles(block, row, codes);
            match encoding {
                Encoding::Q5Nl => put_bits(&mut block[256..], row, codes, 4),
                Encoding::Q6 => put_pairs(&mut block[256..], row, codes, 4),
                _ => {}
            }
        }
    }
}

/// The code of (`row`, `column` below 32) in a block.
fn code_at(encoding: Encoding, block: &[u8], row: usize, column: usize) -> u8 {
    let nibble = || {
        let byte = block[column / 8 * 64 + row * 4 + column % 4];
        if column % 8 < 4 { byte & 15 } else { byte >> 4 }
    };
    let pair = |runs: &[u8]| (runs[column / 16 * 64 + row * 4 + column % 4] >> (column % 16 / 4 * 2)) & 3;
    let bit = |run: &[u8]| (run[row * 4 + column % 4] >> (column / 4)) & 1;
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => block[column / 4 * 64 + row * 4 + column % 4],
        Encoding::Q3Nl => pair(block) | (bit(&block[128..]) << 2),
        Encoding::Q5Nl => nibble() | (bit(&block[256..]) << 4),
        Encoding::Q6 => nibble() | (pair(&block[256..]) << 4),
        _ => nibble(),
    }
}

/// Writes one row of a block of [`Encoding::Q8`], [`Encoding::Q4`] or [`Encoding::Q4Min`].
pub fn put_group(encoding: Encoding, block: &mut [u8], row: usize, group: &Group) {
    put_codes(encoding, block, row, &group.codes);
    let scales = code_bytes(encoding);
    block[scales + 2 * row..][..2].copy_from_slice(&group.scale.to_le_bytes());
    if encoding == Encoding::Q4Min {
        let minimums = scales + 2 * PANEL;
        block[minimums + 2 * row..][..2].copy_from_slice(&group.minimum.to_le_bytes());
    }
}

/// Writes one row of a block of an encoding with two-level scales ([`Encoding::has_two_level_scales`]).
pub fn put_two_level_group(encoding: Encoding, block: &mut [u8], row: usize, codes: &[u8; GROUP], scale: i8) {
    put_codes(encoding, block, row, codes);
    block[code_bytes(encoding) + row] = scale as u8;
}

/// Writes the scale of one row of a panel of [`Encoding::Q8Row`] or of an encoding with two-level scales.
pub fn put_row_scale(panel: &mut [u8], row: usize, scale: f32) {
    panel[4 * row..][..4].copy_from_slice(&scale.to_le_bytes());
}

/// Reads one row of a block of [`Encoding::Q8`], [`Encoding::Q4`] or [`Encoding::Q4Min`]: the inverse of [`put_group`].
pub(crate) fn read_group(encoding: Encoding, block: &[u8], row: usize) -> Group {
    let at = |step: usize, j: usize| block[step * 64 + row * 4 + j];
    let codes = std::array::from_fn(|column| match encoding {
        Encoding::Q8 => at(column / 4, column % 4),
        _ => at(column / 8, column % 4) >> (column % 8 / 4 * 4) & 15,
    });
    let numbers = &block[code_bytes(encoding)..];
    let number = |at: usize| f16::from_le_bytes([numbers[2 * at], numbers[2 * at + 1]]);
    let minimum = if encoding == Encoding::Q4Min { number(PANEL + row) } else { f16::ZERO };
    Group { codes, scale: number(row), minimum }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The number at (`row` below 16, `column`) of a panel of the encoding.
fn value(encoding: Encoding, panel: &[u8], row: usize, column: usize) -> f32 {
    let (group, within) = (column / GROUP, column % GROUP);
    let block = |bytes: usize| &panel[encoding.panel_header() + group * bytes..];
    match encoding {
        Encoding::Vector => f32_at(panel, 4 * column),
        Encoding::F32 => f32_at(panel, 64 * column + 4 * row),
        Encoding::F16 => f16_at(panel, 32 * column + 2 * row),
        Encoding::BF16 => {
            let at = 32 * column + 2 * row;
            bf16::from_le_bytes([panel[at], panel[at + 1]]).to_f32()
        }
        _ => {
            let block = block(encoding.block_bytes());
            let code = code_at(encoding, block, row, within);
            let number = f32::from(code);
            let level = |levels: &[u8]| f32::from(levels[usize::from(code)]) - f32::from(LEVEL_ZERO);
            let scales = code_bytes(encoding);
            let two_level = || f32_at(panel, 4 * row) * f32::from(block[scales + row] as i8);
            match encoding {
                Encoding::Q8 => f16_at(block, scales + 2 * row) * (number - 128.0),
                Encoding::Q8Row => f32_at(panel, 4 * row) * (number - 128.0),
                Encoding::Q4 => f16_at(block, scales + 2 * row) * (number - 8.0),
                Encoding::Q3Nl => two_level() * level(&LEVELS_3),
                Encoding::Q4Nl => two_level() * level(&LEVELS_4),
                Encoding::Q5Nl => two_level() * level(&LEVELS_5),
                Encoding::Q6 => two_level() * (number - 32.0),
                _ => f16_at(block, scales + 2 * row) * number + f16_at(block, scales + 2 * (PANEL + row)),
            }
        }
    }
}

/// One row of a stored tensor as f32; `None` if the bytes are too short.
///
/// Shape: `out` holds the tensor's columns. Not optimized: for `inspect`, tests and error measurements.
pub fn unpack_row(encoding: Encoding, tensor: &[u8], row: usize, out: &mut [f32]) -> Option<()> {
    let panel_bytes = encoding.panel_bytes(out.len())?;
    let (panel, within) = match encoding {
        Encoding::Vector => (tensor.get(..out.len().checked_mul(4)?)?, 0),
        _ => {
            let start = (row / PANEL).checked_mul(panel_bytes)?;
            (tensor.get(start..start.checked_add(panel_bytes)?)?, row % PANEL)
        }
    };
    for (column, out) in out.iter_mut().enumerate() {
        *out = value(encoding, panel, within, column);
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
            let count = levels(encoding).len();
            let mut block = vec![0xA5; encoding.block_bytes()];
            let code = |row: usize, column: usize| ((row * 41 + column * 23 + row * column) % count) as u8;
            for row in 0..PANEL {
                put_codes(encoding, &mut block, row, &std::array::from_fn(|column| code(row, column)));
            }
            for row in 0..PANEL {
                for column in 0..GROUP {
                    assert_eq!(drawn(encoding, &block, row, column), code(row, column), "{encoding:?}");
                    assert_eq!(code_at(encoding, &block, row, column), code(row, column), "{encoding:?}");
                }
            }
            // The scales begin where the codes end.
            assert!(block[code_bytes(encoding)..].iter().all(|&b| b == 0xA5));
            assert!(
                encoding.block_bytes() - code_bytes(encoding)
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
            let last = (levels(encoding).len() - 1) as u8;
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

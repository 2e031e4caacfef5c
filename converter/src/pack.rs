//! Where each number of a panel lies, and the way back from a tensor's bytes to f32.
//!
//! `FORMAT.md` draws the layouts. The `put` functions are the only code in the converter that knows them.

use half::{bf16, f16};
use thimble_runtime::format::{Encoding, GROUP, PANEL};

/// One row of one group, as codes: what a quantizer makes and a lossless import finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Unsigned codes.
    pub codes: [u8; GROUP],
    /// Step between two codes.
    pub scale: f16,
    /// Value of code 0, for [`Encoding::Q4Min`]; zero otherwise.
    pub minimum: f16,
}

/// The code that stands for zero.
pub fn zero_code(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => 128,
        Encoding::Q4 => 8,
        _ => 0,
    }
}

/// Fills a panel with zero-valued rows.
pub fn clear(encoding: Encoding, panel: &mut [u8]) {
    panel.fill(0);
    let zero = zero_code(encoding);
    let codes = match encoding {
        Encoding::Q8 | Encoding::Q8Row => zero,
        _ => zero | (zero << 4),
    };
    let (_, blocks) = panel.split_at_mut(encoding.panel_header().min(panel.len()));
    if encoding.block_columns() == GROUP {
        for block in blocks.chunks_exact_mut(encoding.block_bytes()) {
            let code_bytes = code_bytes(encoding);
            block[..code_bytes].fill(codes);
        }
    }
}

/// Bytes of codes at the front of a block.
fn code_bytes(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => PANEL * GROUP,
        _ => PANEL * GROUP / 2,
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

/// Writes the codes of one row and group, wherever the encoding puts them in `block`.
pub fn put_codes(encoding: Encoding, block: &mut [u8], row: usize, codes: &[u8; GROUP]) {
    match encoding {
        Encoding::Q8 | Encoding::Q8Row => {
            for (step, four) in codes.chunks_exact(4).enumerate() {
                block[step * 64 + row * 4..][..4].copy_from_slice(four);
            }
        }
        _ => {
            for (step, eight) in codes.chunks_exact(8).enumerate() {
                let out = &mut block[step * 64 + row * 4..][..4];
                for (j, out) in out.iter_mut().enumerate() {
                    *out = eight[j] | (eight[j + 4] << 4);
                }
            }
        }
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

/// Writes the scale of one row of a [`Encoding::Q8Row`] panel.
pub fn put_row_scale(panel: &mut [u8], row: usize, scale: f32) {
    panel[4 * row..][..4].copy_from_slice(&scale.to_le_bytes());
}

/// One row of a block of [`Encoding::Q8`], [`Encoding::Q4`] or [`Encoding::Q4Min`], as [`put_group`] wrote it.
pub(crate) fn take_group(encoding: Encoding, block: &[u8], row: usize) -> Group {
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
        Encoding::Q8 | Encoding::Q8Row => {
            let block = block(encoding.block_bytes());
            let code = block[within / 4 * 64 + row * 4 + within % 4];
            let scale = match encoding {
                Encoding::Q8 => f16_at(block, 512 + 2 * row),
                _ => f32_at(panel, 4 * row),
            };
            scale * (f32::from(code) - 128.0)
        }
        Encoding::Q4 | Encoding::Q4Min => {
            let block = block(encoding.block_bytes());
            let byte = block[within / 8 * 64 + row * 4 + within % 4];
            let code = f32::from(if within % 8 < 4 { byte & 15 } else { byte >> 4 });
            let scale = f16_at(block, 256 + 2 * row);
            match encoding {
                Encoding::Q4 => scale * (code - 8.0),
                _ => scale * code + f16_at(block, 288 + 2 * row),
            }
        }
    }
}

/// One row of a stored tensor as f32; `None` where the bytes are too short for it.
///
/// Shape: `out` holds the tensor's columns. Slow and plain: for `inspect`, tests and error measurements.
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

/// A whole stored tensor as f32, row after row; `None` where the bytes are too short for its shape.
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

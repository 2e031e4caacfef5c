//! Reads rows of a `.thimble` file's panels as blocks of a GGML type.

use super::BlockType;
use super::source_file::SourceFile;
use super::tensor::SourceTensor;
use crate::{ConvertError, pack};
use rayon::prelude::*;
use std::ops::Range;
use thimble_runtime::format::{Encoding, FormatError, GROUP, PANEL, WeightScales};

/// Reads rows as blocks of the tensor's type.
pub(super) fn read_rows(
    file: &SourceFile,
    tensor: &SourceTensor,
    encoding: Encoding,
    rows: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let (role, layer) = (tensor.role, tensor.layer);
    let overflow = FormatError::TensorOverflow { role, layer };
    let panel_bytes = encoding.panel_bytes(tensor.columns).ok_or(overflow)?;
    let (first, last) = (rows.start / PANEL, rows.end.div_ceil(PANEL));
    let mut panels = vec![0; (last - first) * panel_bytes];
    file.read_at(tensor.offset + (first * panel_bytes) as u64, &mut panels)?;
    out.clear();
    out.resize(rows.len() * tensor.row_bytes(), 0);
    let row_bytes = tensor.row_bytes().max(1);
    out.par_chunks_exact_mut(row_bytes).zip(rows).for_each(|(out, row)| {
        let row = row - first * PANEL;
        let panel = &panels[row / PANEL * panel_bytes..][..panel_bytes];
        match tensor.kind {
            kind if kind.block_len() == GROUP => {
                let blocks = panel.chunks_exact(encoding.block_bytes());
                let out = out.chunks_exact_mut(tensor.kind.block_bytes());
                blocks.zip(out).for_each(|(block, out)| put_block(encoding, block, row % PANEL, out));
            }
            kind => put_numbers(encoding, kind, panel, (row % PANEL, tensor.columns), out),
        }
    });
    Ok(())
}

/// Writes one row of a panel's block as a block of [`BlockType::of`]: scale, minimum, codes of 8 or 4 bits.
fn put_block(encoding: Encoding, block: &[u8], row: usize, out: &mut [u8]) {
    let group = pack::read_group(encoding, block, row);
    out[..2].copy_from_slice(&group.scale.to_le_bytes());
    let layout = encoding.layout();
    let head = if layout.scales == WeightScales::GroupAndMinimum {
        out[2..4].copy_from_slice(&group.minimum.to_le_bytes());
        4
    } else {
        2
    };
    let out = &mut out[head..];
    if layout.bits() == 8 {
        let zero = layout.zero_point();
        out.iter_mut().zip(group.codes).for_each(|(out, code)| *out = code.wrapping_sub(zero));
    } else {
        let (low, high) = group.codes.split_at(GROUP / 2);
        out.iter_mut().zip(low.iter().zip(high)).for_each(|(out, (low, high))| *out = low | high << 4);
    }
}

/// Writes one row of a panel as floats.
fn put_numbers(
    encoding: Encoding,
    kind: BlockType,
    panel: &[u8],
    (row, columns): (usize, usize),
    out: &mut [u8],
) {
    let mut values = vec![0.0; columns];
    // The panel is complete, so that unpacking cannot fail.
    let _ = pack::unpack_row(encoding, panel, row, &mut values);
    let out = out.chunks_exact_mut(kind.block_bytes());
    out.zip(values).for_each(|(out, value)| kind.put_float(value, out));
}

//! Weights on the device, in the layout of the file.

use crate::{Device, GpuError};
use thimble_runtime::format::{Encoding, PANEL};
use thimble_runtime::kernels::Matrix;

/// Workgroups that a dispatch can have in one dimension, and with it panels of a piece.
const MOST_PANELS: usize = 65_535;

/// Whole panels of one or more matrices that are multiplied at once: one buffer.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'f> {
    pub(crate) encoding: Encoding,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Row of the whole product that the first row here is.
    pub(crate) first_row: usize,
    /// One after the other; each but the last ends with a full panel.
    data: Vec<&'f [u8]>,
}

impl<'f> Piece<'f> {
    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        self.data.iter().map(|data| data.len() as u64).sum()
    }

    /// Words of one panel.
    pub(crate) fn panel_words(&self) -> u32 {
        (self.encoding.panel_bytes(self.columns).unwrap_or(0) / 4) as u32
    }

    /// Copies the panels to a buffer of their own.
    pub(crate) fn upload(&self, device: &Device) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = device.buffer("weights", self.bytes(), usage);
        let mut offset = 0;
        for data in &self.data {
            device.queue.write_buffer(&buffer, offset, data);
            offset += data.len() as u64;
        }
        buffer
    }
}

/// Cuts matrices that read the same input into pieces of at most `most` bytes: neighbours of one encoding become one
/// piece, a matrix that is too large several.
///
/// # Errors
/// [`GpuError::TooLarge`] where one panel does not fit.
pub(crate) fn pieces<'f>(matrices: &[Matrix<'f>], most: u64) -> Result<Vec<Piece<'f>>, GpuError> {
    let mut pieces: Vec<Piece<'f>> = Vec::new();
    let mut row = 0;
    for matrix in matrices {
        let Matrix { encoding, columns, .. } = *matrix;
        if let Some(last) = pieces.last_mut() {
            let fits = last.bytes() + matrix.data.len() as u64 <= most
                && last.rows.is_multiple_of(PANEL)
                && (last.rows + matrix.rows).div_ceil(PANEL) <= MOST_PANELS;
            if fits && last.encoding == encoding && last.columns == columns {
                last.rows += matrix.rows;
                last.data.push(matrix.data);
                row += matrix.rows;
                continue;
            }
        }
        let panel = encoding.panel_bytes(columns).unwrap_or(usize::MAX);
        let panels = usize::try_from(most).unwrap_or(usize::MAX) / panel;
        if panels == 0 {
            return Err(GpuError::TooLarge { what: "16 rows of weights", needed: panel as u64, most });
        }
        let panels = panels.min(MOST_PANELS);
        for (i, data) in matrix.data.chunks(panels * panel).enumerate() {
            let first = i * panels * PANEL;
            let rows = (matrix.rows - first).min(panels * PANEL);
            pieces.push(Piece { encoding, rows, columns, first_row: row + first, data: vec![data] });
        }
        row += matrix.rows;
    }
    Ok(pieces)
}

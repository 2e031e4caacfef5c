//! Weights on the device, in the layout of the file.

use crate::{Device, GpuError};
use thimble_runtime::format::{Encoding, PANEL};
use thimble_runtime::kernels::Matrix;

/// Most workgroups of a dispatch in one dimension, and so most panels of a partition.
const MAX_PANELS: usize = 65_535;

/// Whole panels of one or more matrices with the same input: the contents of one buffer.
#[derive(Clone, Debug)]
pub(crate) struct WeightPartition<'f> {
    pub(crate) encoding: Encoding,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Index of the partition's first row among the rows of all matrices.
    pub(crate) first_row: usize,
    /// Bytes of each matrix; all but the last end with a full panel.
    data: Vec<&'f [u8]>,
}

impl WeightPartition<'_> {
    /// Size on the device, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.data.iter().map(|data| data.len() as u64).sum()
    }

    /// 32-bit words of one panel.
    pub(crate) fn panel_words(&self) -> u32 {
        (self.encoding.panel_bytes(self.columns).unwrap_or(0) / 4) as u32
    }

    /// The same with another first row, for weights that are on the device.
    pub(crate) fn without_data(&self, first_row: usize) -> WeightPartition<'static> {
        let WeightPartition { encoding, rows, columns, first_row: own, .. } = *self;
        WeightPartition { encoding, rows, columns, first_row: first_row + own, data: Vec::new() }
    }

    /// Copies the panels to a new buffer.
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

/// Partitions matrices that read the same input into buffers of at most `max_bytes`: adjacent matrices of one encoding
/// share a buffer, and a matrix that is too large is cut between panels.
///
/// # Errors
/// [`GpuError::TooLarge`] if one panel does not fit.
pub(crate) fn partition<'f>(
    matrices: &[Matrix<'f>],
    max_bytes: u64,
) -> Result<Vec<WeightPartition<'f>>, GpuError> {
    let mut partitions: Vec<WeightPartition<'f>> = Vec::new();
    let mut row = 0;
    for matrix in matrices {
        let Matrix { encoding, columns, .. } = *matrix;
        if let Some(last) = partitions.last_mut() {
            let fits = last.bytes() + matrix.data.len() as u64 <= max_bytes
                && last.rows.is_multiple_of(PANEL)
                && (last.rows + matrix.rows).div_ceil(PANEL) <= MAX_PANELS;
            if fits && last.encoding == encoding && last.columns == columns {
                last.rows += matrix.rows;
                last.data.push(matrix.data);
                row += matrix.rows;
                continue;
            }
        }
        let panel = encoding.panel_bytes(columns).unwrap_or(usize::MAX);
        let panels = usize::try_from(max_bytes).unwrap_or(usize::MAX) / panel;
        if panels == 0 {
            let (what, needed) = ("16 rows of weights", panel as u64);
            return Err(GpuError::TooLarge { what, needed, limit: max_bytes });
        }
        let panels = panels.min(MAX_PANELS);
        for (i, data) in matrix.data.chunks(panels * panel).enumerate() {
            let first = i * panels * PANEL;
            let rows = (matrix.rows - first).min(panels * PANEL);
            partitions.push(WeightPartition {
                encoding,
                rows,
                columns,
                first_row: row + first,
                data: vec![data],
            });
        }
        row += matrix.rows;
    }
    Ok(partitions)
}

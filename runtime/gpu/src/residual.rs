//! Copies of the residual stream to the host.

use crate::Gpu;
use crate::plan::padded;
use std::ops::Range;
use thimble_runtime::model::Backend;

impl Gpu {
    /// Copies the residual stream of `rows` of the last batch to `out`, `[rows, hidden]`; zeros if the device fails. Logits
    /// that were requested stay available.
    pub fn read_residual(&mut self, rows: Range<usize>, out: &mut [f32]) {
        out.fill(0.0);
        if rows.is_empty() {
            return;
        }
        // A submission without a copy of the logits would lose them.
        self.logits();
        self.submit(None);
        let (hidden, stride) = (self.config.hidden, padded(self.config.hidden));
        let mut padded_rows = vec![0.0f32; rows.len() * stride];
        let bytes = size_of_val(&*padded_rows) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("residual stream for the host", bytes, usage);
        let mut encoder = self.device.device.create_command_encoder(&Default::default());
        let from = (rows.start * stride * size_of::<f32>()) as u64;
        encoder.copy_buffer_to_buffer(&self.buffers.x, from, &staging, 0, bytes);
        let submission = self.device.queue.submit([encoder.finish()]);
        self.read(&staging, Some(submission), bytemuck::cast_slice_mut(&mut padded_rows));
        for (row, out) in padded_rows.chunks_exact(stride).zip(out.chunks_exact_mut(hidden)) {
            out.copy_from_slice(&row[..hidden]);
        }
    }
}

//! The cache changes sides: it lies as the CPU's does, so that this is a copy.

use crate::plan::positions;
use crate::{Gpu, GpuError};
use std::ops::Range;
use thimble_runtime::kernels::{CHUNK, KvHead, KvKind};

/// Most bytes that are copied for the host at a time, unless a layer has more.
const ROUND: u64 = 64 << 20;

/// Where the positions of some blocks lie in the buffers of a layer, keys and values.
struct Places {
    /// Bytes of one head's whole region.
    region: [u64; 2],
    /// Offset in it.
    start: [u64; 2],
    /// Bytes.
    length: [u64; 2],
}

impl Places {
    fn new(gpu: &Gpu, blocks: &Range<usize>) -> Places {
        let dim = gpu.config.head_dim;
        let bytes = |positions: usize| {
            [dim, dim.next_multiple_of(16)].map(|width| (positions * width * gpu.options.kv.bytes()) as u64)
        };
        Places {
            region: bytes(positions(&gpu.options)),
            start: bytes(blocks.start * CHUNK),
            length: bytes(blocks.len() * CHUNK),
        }
    }

    /// Offset of a head's blocks.
    fn offset(&self, side: usize, head: usize) -> u64 {
        head as u64 * self.region[side] + self.start[side]
    }

    /// Bytes of a head's blocks.
    fn head(&self) -> u64 {
        self.length.iter().sum()
    }
}

impl Gpu {
    /// Gives keys and values at the positions of `blocks`, 64 in each, `each(layer, head, part)`, once all that was recorded
    /// before is done. The answer is false, and nothing is given, where the cache is of bytes.
    ///
    /// # Errors
    /// [`GpuError::Device`]; what was given before it is anything.
    pub fn read_cache(
        &mut self,
        blocks: Range<usize>,
        each: &mut dyn FnMut(usize, usize, KvHead<'_>),
    ) -> Result<bool, GpuError> {
        if self.options.kv == KvKind::Q8 {
            return Ok(false);
        }
        self.submit(None);
        let places = Places::new(self, &blocks);
        let heads = self.config.kv_heads;
        let layer_bytes = places.head() * heads as u64;
        if layer_bytes == 0 {
            return Ok(true);
        }
        let together = ((ROUND / layer_bytes) as usize).clamp(1, self.caches.len());
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("cache for the host", layer_bytes * together as u64, usage);
        for first in (0..self.caches.len()).step_by(together) {
            let layers = first..(first + together).min(self.caches.len());
            let mut encoder = self.device.device.create_command_encoder(&Default::default());
            let mut to = 0;
            for layer in layers.clone() {
                for head in 0..heads {
                    for (side, buffer) in self.caches[layer].iter().enumerate() {
                        let from = places.offset(side, head);
                        encoder.copy_buffer_to_buffer(buffer, from, &staging, to, places.length[side]);
                        to += places.length[side];
                    }
                }
            }
            self.device.queue.submit([encoder.finish()]);
            let slice = staging.slice(..to);
            slice.map_async(wgpu::MapMode::Read, |_| {});
            let done = self.device.device.poll(wgpu::PollType::wait_indefinitely());
            self.check()?;
            let failed = |reason: String| GpuError::Device { reason };
            done.map_err(|error| failed(error.to_string()))?;
            let view = slice.get_mapped_range().map_err(|error| failed(error.to_string()))?;
            for (i, part) in view.chunks_exact(places.head() as usize).enumerate() {
                let (keys, values) = part.split_at(places.length[0] as usize);
                let (key_scales, value_scales) = (&[][..], &[][..]);
                let part = KvHead { kind: self.options.kv, keys, values, key_scales, value_scales };
                each(first + i / heads, i % heads, part);
            }
            drop(view);
            staging.unmap();
        }
        Ok(true)
    }

    /// Takes keys and values of one layer and head at the positions of `blocks`, in front of whatever is recorded next.
    /// The answer is false, and nothing is taken, where the cache is of bytes or of another kind.
    pub fn write_cache(&mut self, blocks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
        if self.options.kv == KvKind::Q8 || part.kind != self.options.kv {
            return false;
        }
        self.submit(None);
        let places = Places::new(self, &blocks);
        for (side, bytes) in [part.keys, part.values].into_iter().enumerate() {
            if bytes.len() as u64 != places.length[side] {
                return false;
            }
            self.device.queue.write_buffer(&self.caches[layer][side], places.offset(side, head), bytes);
        }
        true
    }
}

//! Copies of the KV cache between device and host; both sides have the same layout.

use crate::plan::positions;
use crate::{Gpu, GpuError};
use std::ops::Range;
use thimble_runtime::kernels::{CHUNK, KvHead, KvKind};

/// Size of the staging buffer, bytes, unless one layer needs more.
const STAGING_BYTES: u64 = 64 << 20;

/// The bytes of some chunks of the cache within a layer's buffer, for one of keys, values and their scales.
struct CacheRange {
    /// Index of the layer's buffer: 0 for keys, 1 for values.
    buffer: usize,
    /// Offset of the first head.
    base: u64,
    /// Bytes of one head.
    head_bytes: u64,
    /// Offset within a head.
    start: u64,
    /// Bytes to copy for each head.
    length: u64,
}

impl CacheRange {
    /// Offset of the range for `head`.
    fn offset(&self, head: usize) -> u64 {
        self.base + head as u64 * self.head_bytes + self.start
    }
}

/// The ranges of keys, values, key scales and value scales; scales are empty unless the cache is 8-bit.
fn cache_ranges(gpu: &Gpu, chunks: &Range<usize>) -> [CacheRange; 4] {
    let (config, kv, positions) = (&gpu.config, gpu.options.kv, positions(&gpu.options));
    let key_width = if kv == KvKind::Q8 { config.head_dim.next_multiple_of(4) } else { config.head_dim };
    let widths = [key_width, config.head_dim.next_multiple_of(16)].map(|width| width * kv.bytes());
    let range = |buffer, base: usize, bytes: usize| CacheRange {
        buffer,
        base: base as u64,
        head_bytes: (positions * bytes) as u64,
        start: (chunks.start * CHUNK * bytes) as u64,
        length: (chunks.len() * CHUNK * bytes) as u64,
    };
    let scale = if kv == KvKind::Q8 { 4 } else { 0 };
    let scales_base = widths.map(|width| config.kv_heads * positions * width);
    [
        range(0, 0, widths[0]),
        range(1, 0, widths[1]),
        range(0, scales_base[0], scale),
        range(1, scales_base[1], scale),
    ]
}

impl Gpu {
    /// Reads the keys and values of `chunks` of 64 positions, after all recorded operations: calls
    /// `each(layer, head, part)` in that order. Returns true: the layout is the CPU's.
    ///
    /// # Errors
    /// [`GpuError::Device`]; contents passed to `each` are unspecified then.
    pub fn read_cache(
        &mut self,
        chunks: Range<usize>,
        each: &mut dyn FnMut(usize, usize, KvHead<'_>),
    ) -> Result<bool, GpuError> {
        self.submit(None);
        let ranges = cache_ranges(self, &chunks);
        let heads = self.config.kv_heads;
        let head_bytes: u64 = ranges.iter().map(|range| range.length).sum();
        let layer_bytes = head_bytes * heads as u64;
        if layer_bytes == 0 {
            return Ok(true);
        }
        let layers_per_copy = ((STAGING_BYTES / layer_bytes) as usize).clamp(1, self.caches.len());
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("cache for the host", layer_bytes * layers_per_copy as u64, usage);
        for first in (0..self.caches.len()).step_by(layers_per_copy) {
            let mut encoder = self.device.device.create_command_encoder(&Default::default());
            let mut to = 0;
            for buffers in self.caches.iter().skip(first).take(layers_per_copy) {
                for head in 0..heads {
                    for range in ranges.iter().filter(|range| range.length > 0) {
                        let from = &buffers[range.buffer];
                        encoder.copy_buffer_to_buffer(from, range.offset(head), &staging, to, range.length);
                        to += range.length;
                    }
                }
            }
            self.device.queue.submit([encoder.finish()]);
            let slice = staging.slice(..to);
            slice.map_async(wgpu::MapMode::Read, |_| {});
            self.device.wait(None)?;
            let view = slice.get_mapped_range().map_err(|error| {
                self.device.fail(error.to_string());
                GpuError::Device { reason: error.to_string() }
            })?;
            for (i, part) in view.chunks_exact(head_bytes as usize).enumerate() {
                let (keys, rest) = part.split_at(ranges[0].length as usize);
                let (values, rest) = rest.split_at(ranges[1].length as usize);
                let (key_scales, value_scales) = rest.split_at(ranges[2].length as usize);
                // Every range is a multiple of four bytes, so the scales are aligned.
                let (key_scales, value_scales) =
                    (bytemuck::cast_slice(key_scales), bytemuck::cast_slice(value_scales));
                let part = KvHead { kind: self.options.kv, keys, values, key_scales, value_scales };
                each(first + i / heads, i % heads, part);
            }
            drop(view);
            staging.unmap();
        }
        Ok(true)
    }

    /// Writes the keys and values of one layer and head for `chunks` of 64 positions, before any operation recorded later.
    /// Returns false, and writes nothing, if `part` has another element type or size.
    pub fn write_cache(&mut self, chunks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
        if part.kind != self.options.kv {
            return false;
        }
        self.submit(None);
        let bytes: [&[u8]; 4] = [
            part.keys,
            part.values,
            bytemuck::cast_slice(part.key_scales),
            bytemuck::cast_slice(part.value_scales),
        ];
        let ranges = cache_ranges(self, &chunks);
        if ranges.iter().zip(bytes).any(|(range, bytes)| bytes.len() as u64 != range.length) {
            return false;
        }
        for (range, bytes) in ranges.iter().zip(bytes).filter(|(range, _)| range.length > 0) {
            self.device.queue.write_buffer(&self.caches[layer][range.buffer], range.offset(head), bytes);
        }
        true
    }
}

//! Copies of the KV cache between device and host; both sides have the same layout within a chunk.

use crate::plan::window;
use crate::{Gpu, GpuError};
use std::ops::Range;
use thimble_runtime::kernels::{CHUNK, KvHead, KvKind};

/// Size of the staging buffer, bytes, unless one layer needs more.
const STAGING_BYTES: u64 = 64 << 20;

/// Keys, values or their scales in a layer's buffer.
struct CachePlane<'a> {
    buffer: &'a wgpu::Buffer,
    /// Offset of the first head.
    base: usize,
    /// Bytes of one position.
    bytes: usize,
}

impl CachePlane<'_> {
    /// Offset of the chunk in `place` of a head, in a layer of so many positions.
    fn offset(&self, positions: usize, head: usize, place: usize) -> u64 {
        (self.base + (head * positions + place * CHUNK) * self.bytes) as u64
    }

    /// Bytes of so many chunks of one head.
    fn length(&self, chunks: usize) -> u64 {
        (chunks * CHUNK * self.bytes) as u64
    }
}

impl Gpu {
    /// Keys, values, key scales and value scales of a layer; scales are empty unless the cache is 8-bit.
    fn planes(&self, layer: usize) -> [CachePlane<'_>; 4] {
        let (config, kv, cache) = (&self.config, self.options.kv, &self.caches[layer]);
        let key_width = if kv == KvKind::Q8 { config.head_dim.next_multiple_of(4) } else { config.head_dim };
        let widths = [key_width, config.head_dim.next_multiple_of(16)].map(|width| width * kv.bytes());
        let scale = if kv == KvKind::Q8 { 4 } else { 0 };
        let scales = widths.map(|width| config.kv_heads * cache.positions * width);
        let plane = |buffer, base, bytes| CachePlane { buffer, base, bytes };
        [
            plane(&cache.keys, 0, widths[0]),
            plane(&cache.values, 0, widths[1]),
            plane(&cache.keys, scales[0], scale),
            plane(&cache.values, scales[1], scale),
        ]
    }

    /// Whether a token at `position` finds all positions that it attends to, if they were written: layers with a sliding
    /// window keep recent positions only.
    pub fn resumes_at(&self, position: usize) -> bool {
        let Some(window) = window(&self.config) else { return true };
        let kept = crate::plan::positions(&self.options, Some(window));
        position == 0 || (position + 1).saturating_sub(window) + kept >= self.reached
    }

    /// Prepares for [`Gpu::write_cache`] of `positions`, which replace all from their start on. Running a batch does the same.
    pub fn reserve(&mut self, positions: Range<usize>) {
        let goes_on = positions.start > 0 && self.resumes_at(positions.start);
        // Whole chunks are written.
        let end = positions.end.next_multiple_of(CHUNK);
        self.reached = if goes_on { self.reached.max(end) } else { end };
    }

    /// Reads keys and values after all recorded operations, those of `chunks(layer)` of 64 positions: calls
    /// `each(layer, head, part)` in that order. Returns true: the layout is the CPU's. What a layer no longer has is
    /// unspecified.
    ///
    /// # Errors
    /// [`GpuError::Device`]; contents passed to `each` are unspecified then.
    pub fn read_cache(
        &mut self,
        chunks: &dyn Fn(usize) -> Range<usize>,
        each: &mut dyn FnMut(usize, usize, KvHead<'_>),
    ) -> Result<bool, GpuError> {
        self.submit(None);
        let (heads, layers) = (self.config.kv_heads, self.caches.len());
        let layer_bytes = |layer| {
            let length = |plane: CachePlane<'_>| plane.length(chunks(layer).len());
            heads as u64 * self.planes(layer).map(length).iter().sum::<u64>()
        };
        let largest = (0..layers).map(layer_bytes).max().unwrap_or(0);
        if largest == 0 {
            return Ok(true);
        }
        let layers_per_copy = ((STAGING_BYTES / largest) as usize).clamp(1, layers);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("cache for the host", largest * layers_per_copy as u64, usage);
        for first in (0..layers).step_by(layers_per_copy) {
            let copied = first..layers.min(first + layers_per_copy);
            let mut encoder = self.device.device.create_command_encoder(&Default::default());
            let mut to = 0;
            for layer in copied.clone() {
                let positions = self.caches[layer].positions;
                for head in 0..heads {
                    for plane in self.planes(layer).iter().filter(|plane| plane.bytes > 0) {
                        for run in self.caches[layer].runs(&chunks(layer)) {
                            let (from, length) =
                                (plane.offset(positions, head, run.start), plane.length(run.len()));
                            encoder.copy_buffer_to_buffer(plane.buffer, from, &staging, to, length);
                            to += length;
                        }
                    }
                }
            }
            self.device.queue.submit([encoder.finish()]);
            if to == 0 {
                continue;
            }
            let slice = staging.slice(..to);
            slice.map_async(wgpu::MapMode::Read, |_| {});
            self.device.wait(None)?;
            let view = slice.get_mapped_range().map_err(|error| {
                self.device.fail(error.to_string());
                GpuError::Device { reason: error.to_string() }
            })?;
            let mut rest: &[u8] = &view;
            for (layer, head) in copied.flat_map(|layer| (0..heads).map(move |head| (layer, head))) {
                let count = chunks(layer).len();
                let [keys, values, key_scales, value_scales] = self.planes(layer).map(|plane| {
                    let (part, after) = rest.split_at(plane.length(count) as usize);
                    rest = after;
                    part
                });
                // Every part is a multiple of four bytes, so the scales are aligned.
                let (key_scales, value_scales) =
                    (bytemuck::cast_slice(key_scales), bytemuck::cast_slice(value_scales));
                let part = KvHead { kind: self.options.kv, keys, values, key_scales, value_scales };
                each(layer, head, part);
            }
            drop(view);
            staging.unmap();
        }
        Ok(true)
    }

    /// Writes the keys and values of one layer and head for `chunks` of 64 positions, before any operation recorded later. In
    /// a layer with a sliding window they take the places of earlier ones; see [`Gpu::reserve`]. Returns false, and writes
    /// nothing, if `part` has another element type or size, or more chunks than the layer.
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
        let (positions, planes) = (self.caches[layer].positions, self.planes(layer));
        let fits =
            |(plane, bytes): (&CachePlane<'_>, &[u8])| bytes.len() as u64 == plane.length(chunks.len());
        if chunks.len() * CHUNK > positions || !planes.iter().zip(bytes).all(fits) {
            return false;
        }
        for (plane, mut bytes) in planes.iter().zip(bytes).filter(|(plane, _)| plane.bytes > 0) {
            for run in self.caches[layer].runs(&chunks) {
                let (part, after) = bytes.split_at(plane.length(run.len()) as usize);
                self.device.queue.write_buffer(plane.buffer, plane.offset(positions, head, run.start), part);
                bytes = after;
            }
        }
        true
    }
}

//! The cache changes sides: it lies as the CPU's does, so that this is a copy.

use crate::plan::positions;
use crate::{Gpu, GpuError};
use std::ops::Range;
use thimble_runtime::kernels::{CHUNK, KvHead, KvKind};

/// Most bytes that are copied for the host at a time, unless a layer has more.
const ROUND: u64 = 64 << 20;

/// Where one kind of numbers lies for the positions of some blocks.
struct Place {
    /// Keys or values: which buffer of a layer.
    side: usize,
    /// Where the first head's begin.
    base: u64,
    /// Bytes of one head's whole region.
    region: u64,
    /// Offset in it.
    start: u64,
    /// Bytes.
    length: u64,
}

impl Place {
    /// Offset of a head's blocks.
    fn offset(&self, head: usize) -> u64 {
        self.base + head as u64 * self.region + self.start
    }
}

/// Keys, values, and of bytes the scales of either.
fn places(gpu: &Gpu, blocks: &Range<usize>) -> [Place; 4] {
    let (config, kv, positions) = (&gpu.config, gpu.options.kv, positions(&gpu.options));
    let key_width = if kv == KvKind::Q8 { config.head_dim.next_multiple_of(4) } else { config.head_dim };
    let widths = [key_width, config.head_dim.next_multiple_of(16)].map(|width| width * kv.bytes());
    let place = |side, base: usize, bytes: usize| Place {
        side,
        base: base as u64,
        region: (positions * bytes) as u64,
        start: (blocks.start * CHUNK * bytes) as u64,
        length: (blocks.len() * CHUNK * bytes) as u64,
    };
    let scale = if kv == KvKind::Q8 { 4 } else { 0 };
    let behind = widths.map(|width| config.kv_heads * positions * width);
    [place(0, 0, widths[0]), place(1, 0, widths[1]), place(0, behind[0], scale), place(1, behind[1], scale)]
}

impl Gpu {
    /// Gives keys and values at the positions of `blocks`, 64 in each, `each(layer, head, part)`, once all that was recorded
    /// before is done. The answer is true: it lies as the CPU's.
    ///
    /// # Errors
    /// [`GpuError::Device`]; what was given before it is anything.
    pub fn read_cache(
        &mut self,
        blocks: Range<usize>,
        each: &mut dyn FnMut(usize, usize, KvHead<'_>),
    ) -> Result<bool, GpuError> {
        self.submit(None);
        let places = places(self, &blocks);
        let heads = self.config.kv_heads;
        let head_bytes: u64 = places.iter().map(|place| place.length).sum();
        let layer_bytes = head_bytes * heads as u64;
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
                    for place in places.iter().filter(|place| place.length > 0) {
                        let buffer = &self.caches[layer][place.side];
                        encoder.copy_buffer_to_buffer(buffer, place.offset(head), &staging, to, place.length);
                        to += place.length;
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
                let (keys, rest) = part.split_at(places[0].length as usize);
                let (values, rest) = rest.split_at(places[1].length as usize);
                let (key_scales, value_scales) = rest.split_at(places[2].length as usize);
                // Whole words from the start of the mapping on.
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

    /// Takes keys and values of one layer and head at the positions of `blocks`, in front of whatever is recorded next.
    /// The answer is false, and nothing is taken, where the cache is of another kind.
    pub fn write_cache(&mut self, blocks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
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
        let places = places(self, &blocks);
        if places.iter().zip(bytes).any(|(place, bytes)| bytes.len() as u64 != place.length) {
            return false;
        }
        for (place, bytes) in places.iter().zip(bytes).filter(|(place, _)| place.length > 0) {
            self.device.queue.write_buffer(&self.caches[layer][place.side], place.offset(head), bytes);
        }
        true
    }
}

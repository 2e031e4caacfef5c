//! The buffers of one layer's KV cache: with a sliding window, a ring.

use std::ops::Range;
use thimble_runtime::kernels::CHUNK;

/// The cache of one layer.
pub(crate) struct LayerCache {
    pub(crate) keys: wgpu::Buffer,
    pub(crate) values: wgpu::Buffer,
    /// Capacity, whole chunks; a position's place is its remainder.
    pub(crate) positions: usize,
}

impl LayerCache {
    /// The places of `chunks`: ranges without a gap, in order.
    pub(crate) fn runs(&self, chunks: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (places, mut chunks) = (self.positions / CHUNK, chunks.clone());
        std::iter::from_fn(move || {
            let start = chunks.start % places;
            let run = start..places.min(start + chunks.len());
            chunks.start += run.len();
            (!run.is_empty()).then_some(run)
        })
    }
}

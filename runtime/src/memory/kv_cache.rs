//! The KV cache.
//!
//! Each layer and key-value head has a contiguous region that fills from the front, so that only pages of used positions are
//! touched.

use super::arena::{Carve, MemoryError};
use super::options::PlanOptions;
use crate::format::Config;
use crate::kernels::{CHUNK, Disjoint, KvHeadMut, KvKind};
use core::ops::Range;

/// The layout of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvLayout {
    pub(crate) kind: KvKind,
    kv_heads: usize,
    /// Capacity of a region, a multiple of [`CHUNK`] positions.
    pub(crate) positions: usize,
    /// Elements of one position's keys.
    key_width: usize,
    /// Elements of one position's values.
    value_width: usize,
}

impl KvLayout {
    /// The byte ranges of keys and of values, and the range of scales, for `positions` (whole chunks) of one layer and head.
    pub(crate) fn ranges(
        &self,
        layer: usize,
        head: usize,
        positions: Range<usize>,
    ) -> (Range<usize>, Range<usize>, Range<usize>) {
        let region = (layer * self.kv_heads + head) * self.positions;
        let range = |size: usize| (region + positions.start) * size..(region + positions.end) * size;
        let bytes = self.kind.bytes();
        (range(self.key_width * bytes), range(self.value_width * bytes), range(self.scales()))
    }

    /// Scales per position.
    fn scales(&self) -> usize {
        usize::from(self.kind == KvKind::Q8)
    }
}

/// The cache in the caller's memory.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    layout: KvLayout,
    keys: &'m mut [u8],
    values: &'m mut [u8],
    key_scales: &'m mut [f32],
    value_scales: &'m mut [f32],
}

/// The cache, shared by threads that write disjoint regions.
pub(crate) struct KvShared<'a> {
    pub(crate) layout: KvLayout,
    pub(crate) keys: Disjoint<'a, u8>,
    pub(crate) values: Disjoint<'a, u8>,
    pub(crate) key_scales: Disjoint<'a, f32>,
    pub(crate) value_scales: Disjoint<'a, f32>,
}

impl<'m> KvCache<'m> {
    pub(crate) fn carve(
        config: &Config,
        options: &PlanOptions,
        memory: &mut impl Carve<'m>,
    ) -> Result<Self, MemoryError> {
        let kind = options.kv;
        let layout = KvLayout {
            kind,
            kv_heads: config.kv_heads,
            // Attention reads whole chunks and masks positions after the last.
            positions: options.context.next_multiple_of(CHUNK),
            key_width: kind.key_width(config.head_dim),
            value_width: config.head_dim.next_multiple_of(16),
        };
        let positions = layout.positions.checked_mul(config.layers * config.kv_heads);
        let all = |width: usize| positions.and_then(|positions| positions.checked_mul(width));
        let (bytes, scales) = (kind.bytes(), layout.scales());
        Ok(KvCache {
            layout,
            keys: memory.take(all(layout.key_width * bytes))?,
            values: memory.take(all(layout.value_width * bytes))?,
            key_scales: memory.take(all(scales))?,
            value_scales: memory.take(all(scales))?,
        })
    }

    /// Keys and values of `positions` (whole chunks) of one layer and head.
    pub(crate) fn head(&mut self, layer: usize, head: usize, positions: Range<usize>) -> KvHeadMut<'_> {
        let (keys, values, scales) = self.layout.ranges(layer, head, positions);
        KvHeadMut {
            kind: self.layout.kind,
            keys: &mut self.keys[keys],
            values: &mut self.values[values],
            key_scales: &mut self.key_scales[scales.clone()],
            value_scales: &mut self.value_scales[scales],
        }
    }

    pub(crate) fn shared(&mut self) -> KvShared<'_> {
        KvShared {
            layout: self.layout,
            keys: Disjoint::new(self.keys),
            values: Disjoint::new(self.values),
            key_scales: Disjoint::new(self.key_scales),
            value_scales: Disjoint::new(self.value_scales),
        }
    }
}

//! Keys and values of every position: the larger part of the inference state.
//!
//! Each layer and key-value head has a region of its own that fills from the front, so that pages are
//! touched only as positions are used.

use crate::kernels::{CHUNK, Disjoint, KvHead, KvKind};
use crate::memory::{Carve, MemoryError, MemoryPlan};
use core::ops::Range;

/// Sizes of the regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvLayout {
    kind: KvKind,
    kv_heads: usize,
    /// Numbers of keys in a region.
    keys: usize,
    /// Numbers of values in a region.
    values: usize,
    /// Scales in a region.
    scales: usize,
}

impl KvLayout {
    /// The byte ranges of keys and of values, and the range of scales, for one layer and head.
    pub(crate) fn ranges(&self, layer: usize, head: usize) -> (Range<usize>, Range<usize>, Range<usize>) {
        let region = layer * self.kv_heads + head;
        let range = |size: usize| region * size..(region + 1) * size;
        let bytes = self.kind.bytes();
        (range(self.keys * bytes), range(self.values * bytes), range(self.scales))
    }

    pub(crate) fn kind(&self) -> KvKind {
        self.kind
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

/// The cache's buffers, to be written in disjoint regions.
pub(crate) struct KvShared<'a> {
    pub(crate) layout: KvLayout,
    pub(crate) keys: Disjoint<'a, u8>,
    pub(crate) values: Disjoint<'a, u8>,
    pub(crate) key_scales: Disjoint<'a, f32>,
    pub(crate) value_scales: Disjoint<'a, f32>,
}

impl<'m> KvCache<'m> {
    pub(crate) fn carve(plan: &MemoryPlan, memory: &mut impl Carve<'m>) -> Result<Self, MemoryError> {
        let config = plan.config();
        let kind = plan.options().kv;
        // Attention reads whole chunks and masks what lies behind the last position.
        let positions = plan.options().context.next_multiple_of(CHUNK);
        let keys = positions * config.head_dim;
        let values = positions * config.head_dim.next_multiple_of(16);
        let scales = if kind == KvKind::Q8 { positions } else { 0 };
        let layout = KvLayout { kind, kv_heads: config.kv_heads, keys, values, scales };
        let regions = config.layers * config.kv_heads;
        let all = |size: usize, bytes: usize| size.checked_mul(bytes)?.checked_mul(regions);
        Ok(KvCache {
            layout,
            keys: memory.take(all(keys, kind.bytes()))?,
            values: memory.take(all(values, kind.bytes()))?,
            key_scales: memory.take(all(scales, 1))?,
            value_scales: memory.take(all(scales, 1))?,
        })
    }

    /// Keys and values of one layer and head.
    pub(crate) fn head(&self, layer: usize, head: usize) -> KvHead<'_> {
        let (keys, values, scales) = self.layout.ranges(layer, head);
        KvHead {
            kind: self.layout.kind,
            keys: &self.keys[keys],
            values: &self.values[values],
            key_scales: &self.key_scales[scales.clone()],
            value_scales: &self.value_scales[scales],
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

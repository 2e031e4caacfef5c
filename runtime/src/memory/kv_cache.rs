//! The KV cache.
//!
//! Each sequence, layer and key-value head has a contiguous region that fills from the front, so that only pages of used positions are
//! touched. The regions of layers with a sliding window hold the last positions only: they begin at a position, the base,
//! that moves on by whole spans of attention, so that what a kernel computes does not depend on it.

use super::arena::{Carve, MemoryError};
use super::options::PlanOptions;
use crate::format::{Config, LayerPattern};
use crate::kernels::{CHUNK, Disjoint, KvHeadMut, KvKind, SPAN};
use core::ops::Range;

/// Where keys and values of one sequence, layer and key-value head lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvRegion {
    pub(crate) slot: usize,
    pub(crate) layer: usize,
    pub(crate) head: usize,
}

/// The layout of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvLayout {
    pub(crate) kind: KvKind,
    layers: usize,
    kv_heads: usize,
    pattern: LayerPattern,
    /// Positions that a token attends to in layers with a sliding window.
    window: usize,
    /// Capacity of a region, a multiple of [`CHUNK`] positions: in layers without and with a sliding window.
    positions: [usize; 2],
    /// Elements of one position's keys.
    key_width: usize,
    /// Elements of one position's values.
    value_width: usize,
}

impl KvLayout {
    fn new(config: &Config, options: &PlanOptions) -> KvLayout {
        // Attention reads whole chunks and masks positions after the last.
        let all = options.context.next_multiple_of(CHUNK);
        // Beside the window and a batch: a chunk, so that a sequence can end at the last whole one, and a span, because the
        // base is a multiple of it.
        let recent = (config.window + options.batch + CHUNK).next_multiple_of(SPAN) + SPAN;
        KvLayout {
            kind: options.kv,
            layers: config.layers,
            kv_heads: config.kv_heads,
            pattern: config.pattern,
            window: config.window,
            positions: [all, recent.min(all)],
            key_width: options.kv.key_width(config.head_dim),
            value_width: config.head_dim.next_multiple_of(16),
        }
    }

    /// Capacity of the regions of a layer, positions.
    pub(crate) fn positions(&self, layer: usize) -> usize {
        self.positions[usize::from(self.pattern.is_sliding(layer))]
    }

    /// Positions in all regions of the layers before `layer`; `None` on overflow.
    fn before(&self, layer: usize) -> Option<usize> {
        let sliding = self.pattern.sliding_before(layer);
        let [all, recent] = self.positions;
        let (all, recent) = ((layer - sliding).checked_mul(all)?, sliding.checked_mul(recent)?);
        all.checked_add(recent)?.checked_mul(self.kv_heads)
    }

    /// Positions in all regions of one sequence; `None` on overflow.
    fn all(&self) -> Option<usize> {
        self.before(self.layers)
    }

    /// The byte ranges of keys and of values, and the range of scales, for `positions` (whole chunks, counted from the base)
    /// of one region.
    pub(crate) fn ranges(
        &self,
        KvRegion { slot, layer, head }: KvRegion,
        positions: Range<usize>,
    ) -> (Range<usize>, Range<usize>, Range<usize>) {
        // The cache was carved without an overflow.
        let before = slot * self.all().unwrap_or(0) + self.before(layer).unwrap_or(0);
        let region = before + head * self.positions(layer);
        let range = |size: usize| (region + positions.start) * size..(region + positions.end) * size;
        let bytes = self.kind.bytes();
        (range(self.key_width * bytes), range(self.value_width * bytes), range(self.scales()))
    }

    /// Scales per position.
    fn scales(&self) -> usize {
        usize::from(self.kind == KvKind::Q8)
    }

    /// First position in the regions of layers with a sliding window, after `reached` positions.
    fn base(&self, reached: usize) -> usize {
        reached.saturating_sub(self.positions[1]).next_multiple_of(SPAN)
    }

    /// First position in the regions of any layer, after `reached` positions.
    fn region_base(&self, layer: usize, reached: usize) -> usize {
        if self.pattern.is_sliding(layer) { self.base(reached) } else { 0 }
    }

    /// All regions of a sequence.
    fn regions(&self, slot: usize) -> impl Iterator<Item = KvRegion> + use<> {
        let (layers, kv_heads) = (self.layers, self.kv_heads);
        (0..layers).flat_map(move |layer| (0..kv_heads).map(move |head| KvRegion { slot, layer, head }))
    }
}

/// The cache in the caller's memory.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    layout: KvLayout,
    /// Positions of each sequence stored since its cache was last empty; some may have been dropped again.
    reached: &'m mut [usize],
    keys: &'m mut [u8],
    values: &'m mut [u8],
    key_scales: &'m mut [f32],
    value_scales: &'m mut [f32],
}

/// The cache, shared by threads that write disjoint regions.
pub(crate) struct KvShared<'a> {
    pub(crate) layout: KvLayout,
    reached: &'a [usize],
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
        let layout = KvLayout::new(config, options);
        let positions = layout.all().and_then(|positions| positions.checked_mul(options.sequences));
        let reached = memory.take(Some(options.sequences))?;
        reached.fill(0);
        let all = |width: usize| positions.and_then(|positions| positions.checked_mul(width));
        let (bytes, scales) = (layout.kind.bytes(), layout.scales());
        Ok(KvCache {
            layout,
            reached,
            keys: memory.take(all(layout.key_width * bytes))?,
            values: memory.take(all(layout.value_width * bytes))?,
            key_scales: memory.take(all(scales))?,
            value_scales: memory.take(all(scales))?,
        })
    }

    /// The chunks of a layer that tokens from position `end` on attend to, of those before `end`.
    pub(crate) fn chunks(&self, layer: usize, end: usize) -> Range<usize> {
        let sliding = self.layout.pattern.is_sliding(layer);
        let first = if sliding { (end + 1).saturating_sub(self.layout.window) } else { 0 };
        first.min(end) / CHUNK..end.div_ceil(CHUNK)
    }

    /// Whether a token at `position` of a sequence finds all positions that it attends to.
    pub(crate) fn resumes(&self, slot: usize, position: usize) -> bool {
        !self.layout.pattern.any_sliding()
            || position == 0
            || (position + 1).saturating_sub(self.layout.window) >= self.layout.base(self.reached[slot])
    }

    /// Makes room for `positions` of a sequence, which the cache resumes at, and drops those from their start on.
    pub(crate) fn reserve(&mut self, slot: usize, positions: Range<usize>) {
        if !self.layout.pattern.any_sliding() {
            return;
        }
        let before = self.layout.base(self.reached[slot]);
        if positions.start == 0 || !self.resumes(slot, positions.start) {
            self.reached[slot] = positions.end;
            return;
        }
        self.reached[slot] = self.reached[slot].max(positions.end);
        let moved = self.layout.base(self.reached[slot]) - before;
        if moved > 0 && moved < self.layout.positions[1] {
            self.move_left(slot, moved);
        }
    }

    /// Moves the regions of a sequence's layers with a sliding window by `moved` positions, whole spans.
    fn move_left(&mut self, slot: usize, moved: usize) {
        let layout = self.layout;
        for region in layout.regions(slot).filter(|region| layout.pattern.is_sliding(region.layer)) {
            self.copy_part(region, moved..layout.positions(region.layer), region);
        }
    }

    /// Copies `positions`, whole chunks counted from the base, to the front of a region.
    fn copy_part(&mut self, from: KvRegion, positions: Range<usize>, to: KvRegion) {
        let (keys, values, scales) = self.layout.ranges(from, positions);
        let (to_keys, to_values, to_scales) = self.layout.ranges(to, 0..0);
        self.keys.copy_within(keys, to_keys.start);
        self.values.copy_within(values, to_values.start);
        self.key_scales.copy_within(scales.clone(), to_scales.start);
        self.value_scales.copy_within(scales, to_scales.start);
    }

    /// Copies what a sequence has stored of its first `end` positions to another one.
    pub(crate) fn copy(&mut self, from: usize, to: usize, end: usize) {
        self.reached[to] = self.reached[from];
        let layout = self.layout;
        for region in layout.regions(from) {
            let base = layout.region_base(region.layer, self.reached[from]);
            let used = end.saturating_sub(base).next_multiple_of(CHUNK).min(layout.positions(region.layer));
            self.copy_part(region, 0..used, KvRegion { slot: to, ..region });
        }
    }

    /// Keys and values of `positions` (whole chunks) of one region.
    pub(crate) fn head(&mut self, region: KvRegion, positions: Range<usize>) -> KvHeadMut<'_> {
        let base = self.layout.region_base(region.layer, self.reached[region.slot]);
        let positions = positions.start - base..positions.end - base;
        assert!(positions.end <= self.layout.positions(region.layer), "chunks lie inside their region");
        let (keys, values, scales) = self.layout.ranges(region, positions);
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
            reached: self.reached,
            keys: Disjoint::new(self.keys),
            values: Disjoint::new(self.values),
            key_scales: Disjoint::new(self.key_scales),
            value_scales: Disjoint::new(self.value_scales),
        }
    }
}

impl KvShared<'_> {
    /// First position in the regions of a sequence's layer.
    pub(crate) fn base(&self, slot: usize, layer: usize) -> usize {
        self.layout.region_base(layer, self.reached[slot])
    }
}

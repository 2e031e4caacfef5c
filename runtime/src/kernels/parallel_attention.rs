//! Attention on a thread pool: shards are parts of a batch, heads, and tokens of a part or spans of positions.

use super::attention::{AttendOutput, SPAN, merge, partial_width};
use super::parallel::ParallelKernels;
use super::{AttendJob, Disjoint, KvHead, KvHeadMut, QuantGroup, Rope, StoreJob, ThreadPool};
use crate::format::{GROUP, LayerOptions};
use crate::memory::{BatchPart, KvCache, KvRegion, KvShared};
use core::ops::Range;

/// Tokens in one shard of attention.
const ATTEND_TOKENS: usize = 16;

impl<T: ThreadPool> ParallelKernels<'_, T> {
    /// Applies RoPE, stores keys and values in the cache, and computes attention to `out`; also quantizes `out` to tiles in
    /// `groups`, if given. Queries and `out` are `[rows, heads * head_dim]`, keys and values `[rows, kv_heads * head_dim]`;
    /// `partials` is scratch memory of [`partials_len`] numbers for each part.
    ///
    /// Each part attends to the keys and values of its own sequence. All parts are one job of the pool.
    pub(crate) fn attend(
        &self,
        batch: &AttentionBatch<'_>,
        [queries, keys, values]: [&[f32]; 3],
        cache: &mut KvCache<'_>,
        partials: &mut [f32],
        out: &mut [f32],
        groups: Option<&mut [QuantGroup]>,
    ) {
        let cache = cache.shared();
        let (group, dim, kv_heads) = (batch.heads / batch.kv_heads, batch.head_dim, batch.kv_heads);
        let columns = batch.heads * dim;
        let whole = 0..cache.layout.positions(batch.layer);
        let part = |part: &BatchPart| PartJobs::new(batch, *part, &cache, [queries, keys, values]);
        let region = |jobs: &PartJobs<'_>, head| KvRegion { slot: jobs.part.slot, layer: batch.layer, head };
        let rows = batch.parts.iter().map(|part| part.tokens).sum::<usize>();
        let per_part = partials.len() / batch.parts.len();
        let (output, all_partials) = (Disjoint::new(&mut *out), Disjoint::new(&mut *partials));
        // Whether each shard computes a final result of whole groups of the only row, and so can quantize it.
        let quantizes = rows == 1
            && (group * dim).is_multiple_of(GROUP)
            && batch.parts.iter().all(|first| part(first).cut().count() == 1);
        let mut groups = groups;
        let all_groups = groups.as_deref_mut().filter(|_| quantizes).map(Disjoint::new);

        // Parts of several tiles store all their keys before any tile attends to them.
        let long = || batch.parts.iter().filter(|part| part.tokens > ATTEND_TOKENS);
        let store = |shard: usize| {
            let (Some(long), head) = (long().nth(shard / kv_heads), shard % kv_heads) else { return };
            let jobs = part(long);
            // SAFETY: each head of each sequence is one shard.
            let kv = unsafe { head_of(&cache, region(&jobs, head), whole.clone()) };
            (self.kernels.store)(&mut jobs.store(head, 0, kv));
        };
        match long().count() * kv_heads {
            0 => {}
            shards => self.pool.run(shards, &store),
        }

        let shards = |jobs: &PartJobs<'_>| jobs.cut().count() * kv_heads;
        let attend = |shard: usize| {
            let mut shard = shard;
            for (index, jobs) in batch.parts.iter().map(part).enumerate() {
                let count = shards(&jobs);
                if shard >= count {
                    shard -= count;
                    continue;
                }
                let out = output.after(jobs.part.first * columns);
                match jobs.cut() {
                    Cut::Tiles(tiles) => {
                        // The last tokens attend to most positions: start with them, so that no long shard is left at the
                        // end.
                        let (tile, head) = (tiles - 1 - shard / kv_heads, shard % kv_heads);
                        let first = tile * ATTEND_TOKENS;
                        let tokens = first..(first + ATTEND_TOKENS).min(jobs.part.tokens);
                        if tiles == 1 {
                            // SAFETY: each head of each sequence is one shard.
                            let kv = unsafe { head_of(&cache, region(&jobs, head), whole.clone()) };
                            (self.kernels.store)(&mut jobs.store(head, 0, kv));
                        }
                        // SAFETY: no shard writes the heads any more; several may read the same.
                        let kv = unsafe { head_to_read(&cache, region(&jobs, head), whole.clone()) };
                        (self.kernels.attend)(&jobs.attend(head, tokens, 0, kv, AttendOutput::Final(out)));
                    }
                    Cut::Spans { first, count } => {
                        let (head, span) = (shard / count, shard % count);
                        let start = (first + span) * SPAN;
                        let positions = start..(start + SPAN).min(whole.end);
                        // SAFETY: each span of each head of each sequence is one shard.
                        let mut kv = unsafe { head_of(&cache, region(&jobs, head), positions) };
                        if span + 1 == count {
                            let mut job = jobs.store(head, start, kv);
                            (self.kernels.store)(&mut job);
                            kv = job.kv;
                        }
                        let output_of_span = if count == 1 {
                            AttendOutput::Final(out)
                        } else {
                            let width = group * partial_width(dim);
                            // SAFETY: as above, and each part has partial results of its own.
                            let partial =
                                unsafe { all_partials.slice(index * per_part + shard * width, width) };
                            AttendOutput::Partial(Disjoint::new(partial))
                        };
                        (self.kernels.attend)(&jobs.attend(head, 0..1, start, kv.shared(), output_of_span));
                        if let Some(groups) = &all_groups {
                            let each = group * dim / GROUP;
                            // SAFETY: the head's own numbers, which the kernel's references to have ended, and groups of
                            // them.
                            let own = unsafe { out.slice(head * group * dim, group * dim) };
                            // SAFETY: as above.
                            let groups = unsafe { groups.slice(head * each, each) };
                            (self.kernels.quantize_tile)(own, own.len(), 1, groups);
                        }
                    }
                }
                return;
            }
        };
        self.pool.run(batch.parts.iter().map(|of| shards(&part(of))).sum(), &attend);

        for (index, jobs) in batch.parts.iter().map(part).enumerate() {
            let Cut::Spans { count: spans @ 2.., .. } = jobs.cut() else { continue };
            let (partials, width) = (&partials[index * per_part..], partial_width(dim));
            let row = &mut out[jobs.part.first * columns..][..columns];
            for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                let first = (head / group * spans * group + head % group) * width;
                merge(&partials[first..][..((spans - 1) * group + 1) * width], group * width, out);
            }
        }
        if !quantizes && groups.is_some() {
            self.prepare(&out[..rows * columns], columns, None, groups);
        }
    }
}

/// Numbers of scratch memory that [`ParallelKernels::attend`] needs for `positions`; `None` on overflow.
pub(crate) fn partials_len(heads: usize, head_dim: usize, positions: usize) -> Option<usize> {
    let spans = positions.div_ceil(SPAN);
    if spans == 1 { Some(0) } else { (heads * partial_width(head_dim)).checked_mul(spans) }
}

/// Keys and values of some positions of one head.
///
/// # Safety
/// No other reference to them is alive.
unsafe fn head_of<'a>(cache: &KvShared<'a>, region: KvRegion, positions: Range<usize>) -> KvHeadMut<'a> {
    let (keys, values, scales) = cache.layout.ranges(region, positions);
    // SAFETY: the caller's promise. (Four times.)
    let key_bytes = unsafe { cache.keys.slice(keys.start, keys.len()) };
    // SAFETY: as above.
    let value_bytes = unsafe { cache.values.slice(values.start, values.len()) };
    // SAFETY: as above.
    let key_scales = unsafe { cache.key_scales.slice(scales.start, scales.len()) };
    // SAFETY: as above.
    let value_scales = unsafe { cache.value_scales.slice(scales.start, scales.len()) };
    KvHeadMut { kind: cache.layout.kind, keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// The same, read-only.
///
/// # Safety
/// No mutable reference to them is alive.
unsafe fn head_to_read<'a>(cache: &KvShared<'a>, region: KvRegion, positions: Range<usize>) -> KvHead<'a> {
    let (keys, values, scales) = cache.layout.ranges(region, positions);
    // SAFETY: the caller's promise. (Four times.)
    let key_bytes = unsafe { cache.keys.read(keys.start, keys.len()) };
    // SAFETY: as above.
    let value_bytes = unsafe { cache.values.read(values.start, values.len()) };
    // SAFETY: as above.
    let key_scales = unsafe { cache.key_scales.read(scales.start, scales.len()) };
    // SAFETY: as above.
    let value_scales = unsafe { cache.value_scales.read(scales.start, scales.len()) };
    KvHead { kind: cache.layout.kind, keys: key_bytes, values: value_bytes, key_scales, value_scales }
}

/// The batch and the shape of an attention operation.
pub(crate) struct AttentionBatch<'a> {
    pub(crate) layer: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) parts: &'a [BatchPart],
    pub(crate) options: LayerOptions,
    /// Angles of all rows.
    pub(crate) rope: Rope<'a>,
}

/// How attention of a part is cut for one key-value head.
enum Cut {
    /// Several tokens: tiles of them.
    Tiles(usize),
    /// A single token: spans of positions. Spans before the window have no shard.
    Spans { first: usize, count: usize },
}

impl Cut {
    fn count(&self) -> usize {
        match *self {
            Cut::Tiles(count) | Cut::Spans { count, .. } => count,
        }
    }
}

/// Makes the jobs of one part.
struct PartJobs<'a> {
    batch: &'a AttentionBatch<'a>,
    part: BatchPart,
    /// Position of its first token, counted from the base of the layer's regions.
    position: usize,
    /// Its rows of queries, keys and values, and those after them.
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    rope: Rope<'a>,
}

impl<'a> PartJobs<'a> {
    fn new(
        batch: &'a AttentionBatch<'a>,
        part: BatchPart,
        cache: &KvShared<'_>,
        [queries, keys, values]: [&'a [f32]; 3],
    ) -> PartJobs<'a> {
        let (columns, kv_columns) = (batch.heads * batch.head_dim, batch.kv_heads * batch.head_dim);
        let half = part.first * (batch.head_dim / 2);
        PartJobs {
            batch,
            part,
            position: part.position - cache.base(part.slot, batch.layer),
            queries: &queries[part.first * columns..],
            keys: &keys[part.first * kv_columns..],
            values: &values[part.first * kv_columns..],
            rope: Rope { cos: &batch.rope.cos[half..], sin: &batch.rope.sin[half..] },
        }
    }

    fn cut(&self) -> Cut {
        if self.part.tokens > 1 {
            return Cut::Tiles(self.part.tokens.div_ceil(ATTEND_TOKENS));
        }
        let first = self.batch.options.first_attended(self.position) / SPAN;
        Cut::Spans { first, count: self.position / SPAN + 1 - first }
    }

    /// The job that stores one head's keys and values in `kv`, whose first position is `start`.
    fn store<'k>(&'k self, head: usize, start: usize, kv: KvHeadMut<'k>) -> StoreJob<'k> {
        StoreJob {
            keys: self.keys,
            values: self.values,
            stride: self.batch.kv_heads * self.batch.head_dim,
            column: head * self.batch.head_dim,
            head_dim: self.batch.head_dim,
            tokens: self.part.tokens,
            position: self.position - start,
            rope: self.rope,
            kv,
        }
    }

    /// The job that computes attention of `tokens` of the part for one head; the first position of `kv` is `start`.
    fn attend<'k>(
        &'k self,
        head: usize,
        tokens: Range<usize>,
        start: usize,
        kv: KvHead<'k>,
        output: AttendOutput<'k>,
    ) -> AttendJob<'k> {
        let batch = self.batch;
        let group = batch.heads / batch.kv_heads;
        let positions = kv.values.len() / (batch.head_dim.next_multiple_of(16) * kv.kind.bytes());
        AttendJob {
            queries: self.queries,
            stride: batch.heads * batch.head_dim,
            column: head * group * batch.head_dim,
            group,
            head_dim: batch.head_dim,
            tokens,
            position: self.position - start,
            window: batch.options.window.unwrap_or(usize::MAX),
            scale: batch.options.score_scale(batch.head_dim),
            rope: self.rope,
            kv,
            positions,
            output,
        }
    }
}

//! Causal attention of the queries that share one key-value head, in all positions or a sliding window, and writes to the KV
//! cache.
//!
//! Keys and values are floats ([`floats`]) or bytes ([`bytes`]), and are read once for all query heads of the group. Softmax
//! is computed online (Milakov and Gimelshein 2018) over runs of 256 positions.

mod bytes;
mod floats;
mod tile;

use super::shared::Disjoint;
use super::simd::{Simd, Work};
use crate::format::MAX_HEAD_DIM;
use core::ops::Range;
use half::f16;

/// Positions in one block of keys.
pub(crate) const BLOCK: usize = 16;
/// Positions in a chunk of the cache, whose capacity is a multiple of it.
pub const CHUNK: usize = 64;
/// Positions in one run of the online softmax.
const RUN: usize = 256;
/// Blocks in a run.
const BLOCKS: usize = RUN / BLOCK;
/// Positions that one shard attends to when a single token is decoded; a multiple of [`RUN`].
pub(crate) const SPAN: usize = 512;
/// Most queries of a memory-bound tile, that of a single token; such tiles prefetch.
const MEMORY_BOUND: usize = 4;

/// The element type of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvKind {
    /// f32, for the exact mode.
    F32,
    /// f16.
    #[default]
    F16,
    /// Signed bytes with one f32 scale for each position and head.
    Q8,
}

impl KvKind {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            KvKind::F32 => 4,
            KvKind::F16 => 2,
            KvKind::Q8 => 1,
        }
    }

    /// Elements of the keys of one position and head.
    pub(crate) fn key_width(self, head_dim: usize) -> usize {
        if self == KvKind::Q8 { head_dim.next_multiple_of(bytes::STEP) } else { head_dim }
    }
}

/// Keys and values of one layer and one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct KvHead<'a> {
    /// Element type of `keys` and `values`.
    pub kind: KvKind,
    /// `[positions / 16, head_dim, 16]`; for Q8 `[positions / 16, head_dim / 4, 16, 4]`, `head_dim` rounded up.
    pub keys: &'a [u8],
    /// `[positions, width]`, `width` being `head_dim` rounded up to 16; for Q8 `[positions / 64, width / 16, 16, 16, 4]`:
    /// panels of 16 dimensions with steps of 4 positions.
    pub values: &'a [u8],
    /// `[positions]` for Q8, else empty.
    pub key_scales: &'a [f32],
    /// As `key_scales`.
    pub value_scales: &'a [f32],
}

/// Mutable keys and values of one layer and one key-value head.
#[derive(Debug)]
pub struct KvHeadMut<'a> {
    /// Element type of `keys` and `values`.
    pub kind: KvKind,
    /// As in [`KvHead`].
    pub keys: &'a mut [u8],
    /// As in [`KvHead`].
    pub values: &'a mut [u8],
    /// `[positions]` for Q8, else empty.
    pub key_scales: &'a mut [f32],
    /// As `key_scales`.
    pub value_scales: &'a mut [f32],
}

impl KvHeadMut<'_> {
    /// A shared reborrow.
    pub(crate) fn shared(&self) -> KvHead<'_> {
        KvHead {
            kind: self.kind,
            keys: self.keys,
            values: self.values,
            key_scales: self.key_scales,
            value_scales: self.value_scales,
        }
    }
}

/// Cosine and sine of RoPE's angles for each token of a batch, `[tokens, head_dim / 2]`.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

impl Rope<'_> {
    /// Writes one rotated head (pairs of the first and the second half, as in the Hugging Face layout), times `scale`, to `out`.
    fn rotate<S: Simd>(&self, s: S, token: usize, head: &[f32], scale: f32, out: &mut [f32; MAX_HEAD_DIM]) {
        let half = head.len() / 2;
        let angles = token * half..(token + 1) * half;
        s.run(Rotate { cos: &self.cos[angles.clone()], sin: &self.sin[angles], head, scale, out });
    }
}

/// See [`Rope::rotate`].
struct Rotate<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    head: &'a [f32],
    scale: f32,
    out: &'a mut [f32; MAX_HEAD_DIM],
}

impl Work for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rotate { cos, sin, head, scale, out } = self;
        let half = cos.len();
        let (low, high) = head.split_at(half);
        let (out_low, out_high) = out.split_at_mut(half);
        let vectors = half / 16;
        let (cosines, sines) = (&cos.as_chunks::<16>().0[..vectors], &sin.as_chunks::<16>().0[..vectors]);
        let (lows, highs) = (&low.as_chunks::<16>().0[..vectors], &high.as_chunks::<16>().0[..vectors]);
        let out_lows = &mut out_low.as_chunks_mut::<16>().0[..vectors];
        let out_highs = &mut out_high.as_chunks_mut::<16>().0[..vectors];
        for i in 0..vectors {
            let (cos, sin) = (s.load(&cosines[i]), s.load(&sines[i]));
            let (low, high) = (s.load(&lows[i]), s.load(&highs[i]));
            let (low, high) =
                (s.sub(s.mul(low, cos), s.mul(high, sin)), s.add(s.mul(high, cos), s.mul(low, sin)));
            s.store(s.mul(low, s.splat(scale)), &mut out_lows[i]);
            s.store(s.mul(high, s.splat(scale)), &mut out_highs[i]);
        }
        for i in vectors * 16..half {
            out_low[i] = (low[i] * cos[i] - high[i] * sin[i]) * scale;
            out_high[i] = (high[i] * cos[i] + low[i] * sin[i]) * scale;
        }
    }
}

/// Rotates and stores the keys and values of a batch for one key-value head.
pub struct StoreJob<'a> {
    /// `[tokens, stride]`; this head starts at `column`.
    pub keys: &'a [f32],
    /// As `keys`.
    pub values: &'a [f32],
    /// Elements per token.
    pub stride: usize,
    /// First column of the head.
    pub column: usize,
    /// Head dimension.
    pub head_dim: usize,
    /// Tokens in the batch.
    pub tokens: usize,
    /// Position of the first token, relative to `kv`.
    pub position: usize,
    /// Angles of the batch.
    pub rope: Rope<'a>,
    /// The destination.
    pub kv: KvHeadMut<'a>,
}

/// Attention of some tokens of a batch for one key-value head.
pub struct AttendJob<'a> {
    /// `[tokens of the batch, stride]`, before RoPE.
    pub queries: &'a [f32],
    /// Elements per token in `queries` and in `output`.
    pub stride: usize,
    /// First column of the group's query heads.
    pub column: usize,
    /// Query heads in the group.
    pub group: usize,
    /// Head dimension.
    pub head_dim: usize,
    /// The tokens to compute.
    pub tokens: Range<usize>,
    /// Position of token 0 of the batch, relative to `kv`.
    pub position: usize,
    /// Positions that a token attends to, itself included; [`usize::MAX`]: all.
    pub window: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Angles of the batch.
    pub rope: Rope<'a>,
    /// Keys and values, including those of the batch.
    pub kv: KvHead<'a>,
    /// Positions of `kv`. A token attends to those up to its own, as far back as its window.
    pub positions: usize,
    /// The destination.
    pub(super) output: AttendOutput<'a>,
}

/// The destination of a job's result.
#[derive(Clone, Copy)]
pub(super) enum AttendOutput<'a> {
    /// The final result, `[tokens of the batch, stride]`.
    Final(Disjoint<'a, f32>),
    /// A partial result for a span of positions, to be merged: for each head of the group, for one token, the largest score,
    /// the sum of the exponentials relative to it, and the weighted sum of `head_dim` values.
    Partial(Disjoint<'a, f32>),
}

/// Rotates and stores keys and values.
pub(crate) fn store<S: Simd>(s: S, job: &mut StoreJob<'_>) {
    match job.kv.kind {
        KvKind::F32 => floats::store::<S, f32>(s, job),
        KvKind::F16 => floats::store::<S, f16>(s, job),
        KvKind::Q8 => bytes::store(s, job),
    }
}

/// Computes attention for the job's tokens.
pub(crate) fn attend<S: Simd>(s: S, job: &AttendJob<'_>) {
    match job.kv.kind {
        KvKind::F32 => floats::attend::<S, f32>(s, job),
        KvKind::F16 => floats::attend::<S, f16>(s, job),
        KvKind::Q8 => bytes::attend(s, job),
    }
}

/// Numbers of one query head in a partial result.
pub(super) fn partial_width(head_dim: usize) -> usize {
    2 + head_dim
}

/// The result of one query head from its partial results, `stride` numbers apart.
pub(super) fn merge(partials: &[f32], stride: usize, out: &mut [f32]) {
    let mut sums = (f32::MIN, 0.0);
    out.fill(0.0);
    for partial in partials.chunks(stride) {
        sums = fold(sums, out, (partial[0], partial[1]), &partial[2..]);
    }
    let inverse = 1.0 / sums.1;
    for out in out {
        *out *= inverse;
    }
}

/// Adds a span's partial result to that of the spans before it: (largest score, sum of exponentials) and weighted values.
///
/// Kernels fold the spans that they compute one after the other, and `merge` folds those of several shards: the same
/// operations in the same order, and so the same numbers.
#[inline(always)]
fn fold(sums: (f32, f32), values: &mut [f32], partial: (f32, f32), partial_values: &[f32]) -> (f32, f32) {
    let largest = if partial.0 > sums.0 { partial.0 } else { sums.0 };
    let (old, new) = (libm::expf(sums.0 - largest), libm::expf(partial.0 - largest));
    for (value, partial) in values.iter_mut().zip(partial_values) {
        *value = *value * old + partial * new;
    }
    (largest, sums.1 * old + partial.1 * new)
}

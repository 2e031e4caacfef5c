//! Causal attention of a few queries that share one key-value head, and the cache that they read.
//!
//! Keys and values are floats ([`floats`]) or bytes ([`bytes`]). Each is read once for all query heads of the group.
//! Softmax is computed online (Milakov and Gimelshein 2018) over runs of 256 positions.

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
/// The cache's capacity is a multiple of so many positions.
pub const CHUNK: usize = 64;
/// Positions in one run of the online softmax.
const RUN: usize = 256;
/// Blocks in a run.
const BLOCKS: usize = RUN / BLOCK;
/// Positions that one shard looks at while a token is decoded; a multiple of [`RUN`].
pub(crate) const SPAN: usize = 512;
/// Queries, at most, of a tile that waits for memory: those of one token. They ask in advance for what they read next.
const MEMORY_BOUND: usize = 4;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvKind {
    /// 32-bit floats, for the exact mode.
    F32,
    /// Half precision.
    #[default]
    F16,
    /// Signed bytes with one f32 scale for each position and head.
    Q8,
}

impl KvKind {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            KvKind::F32 => 4,
            KvKind::F16 => 2,
            KvKind::Q8 => 1,
        }
    }

    /// Numbers that the keys of one position and head take.
    pub(crate) fn key_width(self, head_dim: usize) -> usize {
        match self {
            KvKind::F32 | KvKind::F16 => head_dim,
            KvKind::Q8 => head_dim.next_multiple_of(bytes::STEP),
        }
    }
}

/// Keys and values of one layer and one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct KvHead<'a> {
    /// Element type of `keys` and `values`.
    pub kind: KvKind,
    /// `[positions / 16, head_dim, 16]`; of bytes `[positions / 16, head_dim / 4, 16, 4]`, `head_dim` rounded up.
    pub keys: &'a [u8],
    /// `[positions, width]`, `width` being `head_dim` rounded up to 16; of bytes `[positions / 64, width / 16, 16, 16, 4]`:
    /// panels of 16 dimensions with steps of 4 positions.
    pub values: &'a [u8],
    /// One for each position where `kind` is [`KvKind::Q8`], else empty.
    pub key_scales: &'a [f32],
    /// As `key_scales`.
    pub value_scales: &'a [f32],
}

/// The same, for the shard that writes it.
#[derive(Debug)]
pub struct KvHeadMut<'a> {
    /// Element type of `keys` and `values`.
    pub kind: KvKind,
    /// As in [`KvHead`].
    pub keys: &'a mut [u8],
    /// As in [`KvHead`].
    pub values: &'a mut [u8],
    /// One for each position where `kind` is [`KvKind::Q8`], else empty.
    pub key_scales: &'a mut [f32],
    /// As `key_scales`.
    pub value_scales: &'a mut [f32],
}

impl KvHeadMut<'_> {
    /// The same, lent.
    pub(crate) fn reborrow(&mut self) -> KvHeadMut<'_> {
        KvHeadMut {
            kind: self.kind,
            keys: self.keys,
            values: self.values,
            key_scales: self.key_scales,
            value_scales: self.value_scales,
        }
    }

    /// The same, to be read.
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

/// Cosine and sine of the rotary embedding's angles for each token of a batch, `[tokens, head_dim / 2]`.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

impl Rope<'_> {
    /// Rotates one head (first half with second half, as in the Hugging Face layout) into `out`, times `scale`.
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
    /// `[tokens, stride]`; this head's numbers start at `column`.
    pub keys: &'a [f32],
    /// As `keys`.
    pub values: &'a [f32],
    /// Numbers from one token to the next.
    pub stride: usize,
    /// First number of the head.
    pub column: usize,
    /// Width of the head.
    pub head_dim: usize,
    /// Tokens in the batch.
    pub tokens: usize,
    /// Position of the first, counted from the first in `kv`.
    pub position: usize,
    /// Angles of the batch.
    pub rope: Rope<'a>,
    /// Where they go.
    pub kv: KvHeadMut<'a>,
}

/// Attention of some tokens of a batch for one key-value head.
pub struct AttendJob<'a> {
    /// `[tokens of the batch, stride]`, not yet rotated.
    pub queries: &'a [f32],
    /// Numbers from one token to the next, in `queries` and in `output`.
    pub stride: usize,
    /// First number of the first query head of the group.
    pub column: usize,
    /// Query heads in the group.
    pub group: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The tokens that this shard computes.
    pub tokens: Range<usize>,
    /// Position of the batch's token 0, counted from the first in `kv`.
    pub position: usize,
    /// Angles of the batch.
    pub rope: Rope<'a>,
    /// Keys and values, those of the batch included.
    pub kv: KvHead<'a>,
    /// Positions that `kv` has; those behind a token are not looked at.
    pub positions: usize,
    /// Where the answer goes.
    pub(super) output: Answer<'a>,
}

/// What becomes of a job's answer.
#[derive(Clone, Copy)]
pub(super) enum Answer<'a> {
    /// `[tokens of the batch, stride]`.
    Whole(Disjoint<'a, f32>),
    /// Of a part of the positions, to be merged with others: for each head of the group, for one token, its largest score,
    /// the sum of the exponentials relative to it, and the weighted sum of `head_dim` values.
    Part(Disjoint<'a, f32>),
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

/// Numbers of one query head in a part of an answer.
pub(super) fn part_width(head_dim: usize) -> usize {
    2 + head_dim
}

/// One query head's answer from its parts, `part_width` numbers `stride` after each other.
pub(super) fn merge(parts: &[f32], stride: usize, out: &mut [f32]) {
    let mut whole = (f32::MIN, 0.0);
    out.fill(0.0);
    for part in parts.chunks(stride) {
        whole = fold(whole, out, (part[0], part[1]), &part[2..]);
    }
    let inverse = 1.0 / whole.1;
    for out in out {
        *out *= inverse;
    }
}

/// Adds a span's part to what the spans before it gave: (largest score, sum of exponentials) and the weighted values.
///
/// A kernel folds the spans of its tokens with it as it goes, `merge` those of a single token that many shards looked
/// at; the operations are the same, and so are the numbers.
#[inline(always)]
fn fold(whole: (f32, f32), values: &mut [f32], part: (f32, f32), part_values: &[f32]) -> (f32, f32) {
    let largest = if part.0 > whole.0 { part.0 } else { whole.0 };
    let (old, new) = (libm::expf(whole.0 - largest), libm::expf(part.0 - largest));
    for (value, part) in values.iter_mut().zip(part_values) {
        *value = *value * old + part * new;
    }
    (largest, whole.1 * old + part.1 * new)
}

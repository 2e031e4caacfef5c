//! Causal attention of a few queries that share one key-value head, and the cache that they read.
//!
//! Keys lie in blocks of 16 positions with one dimension of all 16 side by side, so that a vector of scores
//! needs no horizontal sum; values lie row by row. Each is read once for all query heads of the group.
//! Softmax is computed online (Milakov and Gimelshein 2018) over chunks of 64 positions.

use super::shared::Disjoint;
use super::simd::Simd;
use core::ops::Range;
use half::f16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Positions in one block of keys.
pub(crate) const BLOCK: usize = 16;
/// Positions in one chunk of the online softmax; the cache's capacity is a multiple of it.
pub(crate) const CHUNK: usize = 64;
/// Largest head dimension.
pub const MAX_HEAD_DIM: usize = 256;
const BLOCKS: usize = CHUNK / BLOCK;

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
}

/// Keys and values of one layer and one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct KvHead<'a> {
    /// Element type of `keys` and `values`.
    pub kind: KvKind,
    /// `[positions / 16, head_dim, 16]`.
    pub keys: &'a [u8],
    /// `[positions, head_dim rounded up to 16]`.
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
    /// `[positions / 16, head_dim, 16]`.
    pub keys: &'a mut [u8],
    /// `[positions, head_dim rounded up to 16]`.
    pub values: &'a mut [u8],
    /// One for each position where `kind` is [`KvKind::Q8`], else empty.
    pub key_scales: &'a mut [f32],
    /// As `key_scales`.
    pub value_scales: &'a mut [f32],
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
    #[inline(always)]
    fn rotate(&self, token: usize, head: &[f32], scale: f32, out: &mut [f32; MAX_HEAD_DIM]) {
        let half = head.len() / 2;
        let (low, high) = head.split_at(half);
        let cos = &self.cos[token * half..(token + 1) * half];
        let sin = &self.sin[token * half..(token + 1) * half];
        let (out_low, out_high) = out.split_at_mut(half);
        for i in 0..half {
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
    /// Position of the first.
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
    /// Position of the batch's token 0.
    pub position: usize,
    /// Angles of the batch.
    pub rope: Rope<'a>,
    /// Keys and values, those of the batch included.
    pub kv: KvHead<'a>,
    /// `[tokens of the batch, stride]`.
    pub(super) output: Disjoint<'a, f32>,
}

/// A number of the cache.
trait Element: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Whether each position has a scale.
    const SCALED: bool;
    /// Whether only the exact mode uses it.
    const EXACT: bool = false;
    fn load<S: Simd>(s: S, from: &[Self; 16]) -> S::F;
    fn store<S: Simd>(s: S, x: S::F, to: &mut [Self; 16]);
}

impl Element for f32 {
    const SCALED: bool = false;
    const EXACT: bool = true;
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f32; 16]) -> S::F {
        s.load(from)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F, to: &mut [f32; 16]) {
        s.store(x, to);
    }
}

impl Element for f16 {
    const SCALED: bool = false;
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f16; 16]) -> S::F {
        s.load_f16(from)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F, to: &mut [f16; 16]) {
        s.store_f16(x, to);
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[i8; 16]) -> S::F {
        s.load_i8(from)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F, to: &mut [i8; 16]) {
        s.store_i8(x, to);
    }
}

/// Scale and inverse scale of a vector of signed bytes; 0 and 0 for zeros.
#[inline(always)]
fn byte_scale<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let mut largest = s.zero();
    for chunk in x.as_chunks::<16>().0 {
        largest = s.max(largest, s.abs(s.load(chunk)));
    }
    let largest = s.largest(largest);
    let inverse = 127.0 / largest;
    if inverse.is_finite() { (largest / 127.0, inverse) } else { (0.0, 0.0) }
}

#[inline(always)]
fn store_typed<S: Simd, T: Element>(s: S, job: &mut StoreJob<'_>) {
    let dim = job.head_dim;
    let wide = dim.next_multiple_of(16);
    let Ok(keys) = <[[T; BLOCK]]>::mut_from_bytes(job.kv.keys) else { return };
    let Ok(values) = <[[T; 16]]>::mut_from_bytes(job.kv.values) else { return };
    for token in 0..job.tokens {
        let position = job.position + token;
        let from = token * job.stride + job.column..token * job.stride + job.column + dim;
        let mut row = [0.0; MAX_HEAD_DIM];
        job.rope.rotate(token, &job.keys[from.clone()], 1.0, &mut row);
        let (scale, inverse) = if T::SCALED { byte_scale(s, &row[..wide]) } else { (1.0, 1.0) };
        if let Some(place) = job.kv.key_scales.get_mut(position) {
            *place = scale;
        }
        let block = &mut keys[position / BLOCK * dim..(position / BLOCK + 1) * dim];
        for (row, block) in row[..wide].as_chunks::<16>().0.iter().zip(block.chunks_mut(16)) {
            let mut numbers = [T::new_zeroed(); 16];
            T::store(s, s.mul(s.load(row), s.splat(inverse)), &mut numbers);
            for (number, lanes) in numbers.into_iter().zip(block) {
                lanes[position % BLOCK] = number;
            }
        }
        let mut row = [0.0; MAX_HEAD_DIM];
        row[..dim].copy_from_slice(&job.values[from]);
        let (scale, inverse) = if T::SCALED { byte_scale(s, &row[..wide]) } else { (1.0, 1.0) };
        if let Some(place) = job.kv.value_scales.get_mut(position) {
            *place = scale;
        }
        let places = &mut values[position * wide / 16..(position + 1) * wide / 16];
        for (row, place) in row[..wide].as_chunks::<16>().0.iter().zip(places) {
            T::store(s, s.mul(s.load(row), s.splat(inverse)), place);
        }
    }
}

/// Rotates and stores keys and values.
#[inline(always)]
pub(crate) fn store<S: Simd>(s: S, job: &mut StoreJob<'_>) {
    match job.kv.kind {
        KvKind::F32 => store_typed::<S, f32>(s, job),
        KvKind::F16 => store_typed::<S, f16>(s, job),
        KvKind::Q8 => store_typed::<S, i8>(s, job),
    }
}

/// Computes attention for the job's tokens.
#[inline(always)]
pub(crate) fn attend<S: Simd>(s: S, job: &AttendJob<'_>) {
    match job.kv.kind {
        KvKind::F32 => attend_typed::<S, f32>(s, job),
        KvKind::F16 => attend_typed::<S, f16>(s, job),
        KvKind::Q8 => attend_typed::<S, i8>(s, job),
    }
}

#[inline(always)]
fn attend_typed<S: Simd, T: Element>(s: S, job: &AttendJob<'_>) {
    let queries = job.tokens.len() * job.group;
    let mut first = 0;
    while first < queries {
        let left = queries - first;
        // A wider tile than there are queries computes some for nothing; each width is a copy of the code, so
        // the f32 cache of the exact mode has but two, and wide ones are made only where registers suffice.
        first += match left {
            1 => tile::<S, T, 1, BLOCKS>(s, job, first, left),
            2 if !T::EXACT => tile::<S, T, 2, BLOCKS>(s, job, first, left),
            3 if !T::EXACT => tile::<S, T, 3, BLOCKS>(s, job, first, left),
            4 if !T::EXACT => tile::<S, T, 4, 1>(s, job, first, left),
            12.. if !T::EXACT && S::TILE >= 12 => tile::<S, T, 12, 1>(s, job, first, left),
            _ => tile::<S, T, 6, 1>(s, job, first, left),
        };
    }
}

/// Scores of `Q` queries with `B` blocks of keys.
#[inline(always)]
fn score<S: Simd, T: Element, const Q: usize, const B: usize>(
    s: S,
    queries: &[[f32; Q]],
    blocks: [&[[T; BLOCK]]; B],
) -> [[S::F; Q]; B] {
    let mut sums = [[s.zero(); Q]; B];
    for (d, query) in queries.iter().enumerate() {
        for b in 0..B {
            let keys = T::load(s, &blocks[b][d]);
            for q in 0..Q {
                sums[b][q] = s.mul_add(keys, s.splat(query[q]), sums[b][q]);
            }
        }
    }
    sums
}

/// State of the online softmax and the weighted sum of values for `Q` queries.
struct Softmax<const Q: usize> {
    largest: [f32; Q],
    sum: [f32; Q],
    /// Scores, then probabilities, of the chunk.
    scores: [[f32; CHUNK]; Q],
    values: [[[f32; 16]; MAX_HEAD_DIM / 16]; Q],
}

impl<const Q: usize> Softmax<Q> {
    /// Turns the chunk's scores into probabilities relative to the largest score so far, and rescales what
    /// was summed before. `visible` positions of the chunk count for query `q`.
    #[inline(always)]
    fn update<S: Simd>(&mut self, s: S, q: usize, visible: usize, chunks: usize) {
        let scores = self.scores[q].as_chunks_mut::<16>().0;
        let mut largest = s.splat(self.largest[q]);
        for scores in &*scores {
            largest = s.max(largest, s.load(scores));
        }
        let largest = s.largest(largest);
        let before = self.largest[q];
        let mut sum = s.zero();
        for (b, scores) in scores.iter_mut().enumerate() {
            let p = s.exp(s.sub(s.load(scores), s.splat(largest)));
            s.store(p, scores);
            // Masked scores give about 1e-38, not 0.
            scores[visible.saturating_sub(b * 16).min(16)..].fill(0.0);
            sum = s.add(sum, s.load(scores));
        }
        let shrink = s.array(s.exp(s.splat(before - largest)))[0];
        self.sum[q] = self.sum[q] * shrink + s.sum(sum);
        self.largest[q] = largest;
        if largest > before {
            for values in &mut self.values[q][..chunks] {
                s.store(s.mul(s.load(values), s.splat(shrink)), values);
            }
        }
    }
}

/// Attention of the queries `first..first + Q` of the job, counted over tokens and, within a token, the
/// heads of the group; only `left` of them exist. Returns how many were computed.
#[inline(always)]
fn tile<S: Simd, T: Element, const Q: usize, const B: usize>(
    s: S,
    job: &AttendJob<'_>,
    first: usize,
    left: usize,
) -> usize {
    let dim = job.head_dim;
    let chunks = dim.div_ceil(16);
    let count = left.min(Q);
    let Ok(keys) = <[[T; BLOCK]]>::ref_from_bytes(job.kv.keys) else { return count };
    let Ok(values) = <[[T; 16]]>::ref_from_bytes(job.kv.values) else { return count };

    // The queries transposed, so that one dimension of all lies side by side; absent ones stay zero.
    let mut queries = [[0.0; Q]; MAX_HEAD_DIM];
    let mut visible = [0; Q];
    let scale = 1.0 / libm::sqrtf(dim as f32);
    for q in 0..count {
        let (token, head) = (job.tokens.start + (first + q) / job.group, (first + q) % job.group);
        visible[q] = job.position + token + 1;
        let from = token * job.stride + job.column + head * dim;
        let mut row = [0.0; MAX_HEAD_DIM];
        job.rope.rotate(token, &job.queries[from..from + dim], scale, &mut row);
        for d in 0..dim {
            queries[d][q] = row[d];
        }
    }
    let queries = &queries[..dim];
    let end = visible[count - 1];

    let mut state = Softmax {
        largest: [f32::MIN; Q],
        sum: [0.0; Q],
        scores: [[0.0; CHUNK]; Q],
        values: [[[0.0; 16]; MAX_HEAD_DIM / 16]; Q],
    };
    for start in (0..end).step_by(CHUNK) {
        let block = |b: usize| {
            let block = start / BLOCK + b;
            &keys[block * dim..(block + 1) * dim]
        };
        for b in (0..BLOCKS).step_by(B) {
            let mut blocks: [&[[T; BLOCK]]; B] = [&[]; B];
            for (i, place) in blocks.iter_mut().enumerate() {
                *place = block(b + i);
            }
            let sums = score::<S, T, Q, B>(s, queries, blocks);
            for i in 0..B {
                let at = start + (b + i) * BLOCK;
                for q in 0..Q {
                    let mut sums = sums[i][q];
                    if T::SCALED
                        && let Some(scales) = job.kv.key_scales[at..].first_chunk::<16>()
                    {
                        sums = s.mul(sums, s.load(scales));
                    }
                    let scores = &mut state.scores[q].as_chunks_mut::<16>().0[b + i];
                    s.store(sums, scores);
                    scores[visible[q].saturating_sub(at).min(16)..].fill(f32::MIN);
                }
            }
        }
        for q in 0..Q {
            state.update(s, q, visible[q].saturating_sub(start), chunks);
        }
        let positions = CHUNK.min(end - start);
        if T::SCALED {
            for (i, scale) in job.kv.value_scales[start..start + positions].iter().enumerate() {
                for q in 0..Q {
                    state.scores[q][i] *= scale;
                }
            }
        }
        let rows = &values[start * chunks..(start + positions) * chunks];
        for c in 0..chunks {
            let mut sums = [s.zero(); Q];
            for q in 0..Q {
                sums[q] = s.load(&state.values[q][c]);
            }
            for (i, row) in rows.chunks_exact(chunks).enumerate() {
                let value = T::load(s, &row[c]);
                for q in 0..Q {
                    sums[q] = s.mul_add(value, s.splat(state.scores[q][i]), sums[q]);
                }
            }
            for q in 0..Q {
                s.store(sums[q], &mut state.values[q][c]);
            }
        }
    }
    for q in 0..count {
        let (token, head) = (job.tokens.start + (first + q) / job.group, (first + q) % job.group);
        let at = token * job.stride + job.column + head * dim;
        // SAFETY: these places belong to one token and one query head, which one shard's job computes.
        let out = unsafe { job.output.slice(at, dim) };
        let inverse = 1.0 / state.sum[q];
        for (out, value) in out.iter_mut().zip(state.values[q].as_flattened()) {
            *out = value * inverse;
        }
    }
    count
}

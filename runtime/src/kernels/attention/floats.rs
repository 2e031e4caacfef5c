//! Keys and values as floats.
//!
//! Keys are stored in blocks of 16 positions by dimension, so that a vector of scores needs no horizontal sum; values are
//! stored by position.

use super::tile::{Tile, Update};
use super::{AttendJob, BLOCK, MEMORY_BOUND, RUN, StoreJob};
use crate::format::MAX_HEAD_DIM;
use crate::kernels::simd::{Simd, Work};
use core::marker::PhantomData;
use half::f16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An element type of the cache.
pub(super) trait Element: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Whether only the exact mode uses it.
    const EXACT: bool = false;
    fn load<S: Simd>(s: S, from: &[Self; 16]) -> S::F;
    fn store<S: Simd>(s: S, x: S::F, to: &mut [Self; 16]);
}

impl Element for f32 {
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
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[f16; 16]) -> S::F {
        s.load_f16(from)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F, to: &mut [f16; 16]) {
        s.store_f16(x, to);
    }
}

/// Up to 256 numbers in the element type of the cache, in vectors of 16.
struct Narrow<'r, T> {
    row: &'r [[f32; 16]],
    out: &'r mut [[T; 16]],
}

impl<T: Element> Work for Narrow<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (row, out) in self.row.iter().zip(self.out) {
            T::store(s, s.load(row), out);
        }
    }
}

pub(super) fn store<S: Simd, T: Element>(s: S, job: &mut StoreJob<'_>) {
    let dim = job.head_dim;
    let chunks = dim.div_ceil(16);
    let Ok(keys) = <[[T; BLOCK]]>::mut_from_bytes(job.kv.keys) else { return };
    let Ok(values) = <[[T; 16]]>::mut_from_bytes(job.kv.values) else { return };
    for token in 0..job.tokens {
        let position = job.position + token;
        let from = token * job.stride + job.column..token * job.stride + job.column + dim;
        let mut row = [0.0; MAX_HEAD_DIM];
        job.rope.rotate(s, token, &job.keys[from.clone()], 1.0, &mut row);
        let block = &mut keys[position / BLOCK * dim..(position / BLOCK + 1) * dim];
        let mut numbers = [[T::new_zeroed(); 16]; MAX_HEAD_DIM / 16];
        s.run(Narrow { row: &row.as_chunks::<16>().0[..chunks], out: &mut numbers });
        for (number, lanes) in numbers.as_flattened().iter().zip(block) {
            lanes[position % BLOCK] = *number;
        }
        let mut row = [0.0; MAX_HEAD_DIM];
        row[..dim].copy_from_slice(&job.values[from]);
        let places = &mut values[position * chunks..(position + 1) * chunks];
        s.run(Narrow { row: row.as_chunks::<16>().0, out: places });
    }
}

pub(super) fn attend<S: Simd, T: Element>(s: S, job: &AttendJob<'_>) {
    let queries = job.tokens.len() * job.group;
    let mut first = 0;
    while first < queries {
        let left = queries - first;
        // A tile wider than the number of queries wastes work, but each width is a copy of the code: the f32 cache of the
        // exact mode has only two, and wide ones exist only for sets with enough registers.
        first += match left {
            1 => s.run(Attend::<T, 1, 4> { job, first, left, element: PhantomData }),
            2 if !T::EXACT => s.run(Attend::<T, 2, 4> { job, first, left, element: PhantomData }),
            3 if !T::EXACT => s.run(Attend::<T, 3, 4> { job, first, left, element: PhantomData }),
            4 if !T::EXACT => s.run(Attend::<T, 4, 1> { job, first, left, element: PhantomData }),
            12.. if !T::EXACT && S::TILE >= 12 => {
                s.run_wide(Attend::<T, 12, 1> { job, first, left, element: PhantomData })
            }
            _ => s.run(Attend::<T, 6, 1> { job, first, left, element: PhantomData }),
        };
    }
}

/// Scores of `Q` queries with `B` blocks of keys. For a single token, prefetches the keys `ahead` bytes on and the values of
/// these positions.
#[inline(always)]
fn score<S: Simd, T: Element, const Q: usize, const B: usize>(
    s: S,
    queries: &[[f32; Q]],
    blocks: [&[[T; BLOCK]]; B],
    (values, ahead): (&[T; 16], usize),
) -> [[S::F; Q]; B] {
    let mut sums = [[s.zero(); Q]; B];
    let row = size_of::<[T; BLOCK]>();
    for (d, query) in queries.iter().enumerate() {
        if Q <= MEMORY_BOUND {
            s.prefetch(values, d * B * row, B * row);
        }
        for b in 0..B {
            if Q <= MEMORY_BOUND {
                s.prefetch(&blocks[b][d], ahead, row);
            }
            let keys = T::load(s, &blocks[b][d]);
            for q in 0..Q {
                sums[b][q] = s.mul_add(keys, s.splat(query[q]), sums[b][q]);
            }
        }
    }
    sums
}

/// Attention of the queries `first..first + Q` of the job, in the order of tokens and, within a token, of the heads of the
/// group; `left` of them exist. Returns the number computed.
struct Attend<'j, 'a, T, const Q: usize, const B: usize> {
    job: &'j AttendJob<'a>,
    first: usize,
    left: usize,
    element: PhantomData<T>,
}

impl<T: Element, const Q: usize, const B: usize> Work for Attend<'_, '_, T, Q, B> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let Attend { job, first, left, .. } = self;
        let dim = job.head_dim;
        let chunks = dim.div_ceil(16);
        let mut tile = Tile::<Q>::zeros(first, left);
        tile.begin(s, job);
        let Ok(keys) = <[[T; BLOCK]]>::ref_from_bytes(job.kv.keys) else { return tile.count };
        let Ok(values) = <[[T; 16]]>::ref_from_bytes(job.kv.values) else { return tile.count };

        // Transposed: one dimension of all queries is contiguous.
        let mut queries = [[0.0; Q]; MAX_HEAD_DIM];
        for q in 0..Q {
            for d in 0..dim {
                queries[d][q] = tile.queries[q].query[d];
            }
        }
        let queries = &queries[..dim];

        for span in tile.spans() {
            for start in tile.runs(&span) {
                let positions = RUN.min(tile.end - start);
                let skipped = tile.skipped(start);
                // The cache's capacity is a multiple of four blocks.
                let blocks = positions.div_ceil(BLOCK).next_multiple_of(B);
                for b in (skipped..blocks).step_by(B) {
                    let at = start / BLOCK + b;
                    let mut keys_of: [&[[T; BLOCK]]; B] = [&[]; B];
                    for (i, place) in keys_of.iter_mut().enumerate() {
                        *place = &keys[(at + i) * dim..(at + i + 1) * dim];
                    }
                    let ahead =
                        if start + (b + B) * BLOCK < tile.end { size_of_val(keys_of[0]) * B } else { 0 };
                    let next = (&values[(start + b * BLOCK) * chunks], ahead);
                    let sums = score::<S, T, Q, B>(s, queries, keys_of, next);
                    for i in 0..B {
                        let at = start + (b + i) * BLOCK;
                        for q in 0..Q {
                            let query = &mut tile.queries[q];
                            query.put(s, b + i, sums[i][q], query.visible.saturating_sub(at));
                        }
                    }
                }
                for query in &mut tile.queries {
                    let visible = query.visible.saturating_sub(start);
                    let hidden = query.hidden.saturating_sub(start);
                    s.run(Update { query, hidden, visible, blocks: skipped..blocks, chunks });
                }
                let rows = &values[(start + skipped * BLOCK) * chunks..(start + positions) * chunks];
                for c in 0..chunks {
                    let mut sums = [s.zero(); Q];
                    for q in 0..Q {
                        sums[q] = s.load(&tile.queries[q].values[c]);
                    }
                    for (i, row) in rows.chunks_exact(chunks).enumerate() {
                        let value = T::load(s, &row[c]);
                        for q in 0..Q {
                            let weight = tile.queries[q].scores[skipped..].as_flattened()[i];
                            sums[q] = s.mul_add(value, s.splat(weight), sums[q]);
                        }
                    }
                    for q in 0..Q {
                        s.store(sums[q], &mut tile.queries[q].values[c]);
                    }
                }
            }
            tile.end_span(s, job, &span);
        }
        tile.finish(s, job)
    }
}

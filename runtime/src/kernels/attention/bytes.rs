//! Keys and values as signed bytes (stored plus 128) with a scale for each position, multiplied in integers.
//!
//! Both have the layout of panels of an 8-bit matrix: keys with positions as rows and dimensions as columns, values with
//! dimensions as rows and positions as columns. Queries and probabilities are quantized in two planes, like activations, so
//! that nearly all of the error comes from the 8-bit cache.

use super::tile::{Query, Tile, Update};
use super::{AttendJob, BLOCK, BLOCKS, CHUNK, MEMORY_BOUND, RUN, StoreJob};
use crate::format::MAX_HEAD_DIM;
use crate::kernels::simd::{Simd, Work};

/// Adjacent columns of a panel: dimensions of a key, positions of values.
pub(super) const STEP: usize = 4;
/// Steps in a chunk of values.
const STEPS: usize = CHUNK / STEP;

/// Up to 256 numbers as two planes of signed bytes with one step: `step * (256 * coarse + fine)`, as in a `QuantGroup`.
#[derive(Clone, Copy)]
struct Planes {
    /// Four signed bytes in a word, the first lowest.
    coarse: [i32; BLOCKS * 16 / STEP],
    fine: [i32; BLOCKS * 16 / STEP],
    step: f32,
    /// The sum of the numbers, in steps.
    sum: i32,
}

const _: () = assert!(RUN == MAX_HEAD_DIM, "a run of positions and the longest query have as many numbers");

impl Planes {
    const ZERO: Planes = Planes { coarse: [0; RUN / STEP], fine: [0; RUN / STEP], step: 0.0, sum: 0 };
}

/// Quantizes finite numbers to two planes; codes of other numbers are unspecified.
struct SetPlanes<'p> {
    planes: &'p mut Planes,
    numbers: &'p [[f32; 16]],
}

impl Work for SetPlanes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SetPlanes { planes, numbers } = self;
        let mut largest = s.zero();
        for numbers in numbers {
            largest = s.max(largest, s.abs(s.load(numbers)));
        }
        let largest = s.largest(largest);
        let inverse = 127.0 / largest;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        planes.step = if inverse == 0.0 { 0.0 } else { largest / (127.0 * 256.0) };
        let coarse: &mut [[i8; 16]; BLOCKS] = zerocopy::transmute_mut!(&mut planes.coarse);
        let fine: &mut [[i8; 16]; BLOCKS] = zerocopy::transmute_mut!(&mut planes.fine);
        let mut sum = s.zero();
        for ((numbers, coarse), fine) in numbers.iter().zip(coarse).zip(fine) {
            let scaled = s.mul(s.load(numbers), s.splat(inverse));
            let code = s.round(scaled);
            let rest = s.mul(s.sub(scaled, code), s.splat(256.0));
            let rest = s.round(s.min(s.max(rest, s.splat(-127.0)), s.splat(127.0)));
            s.store_i8(code, coarse);
            s.store_i8(rest, fine);
            sum = s.add(sum, s.mul_add(code, s.splat(256.0), rest));
        }
        // At most 2^23, so that the sum of floats is exact.
        planes.sum = s.sum(sum) as i32;
    }
}

/// Sums of products of codes with both planes of `Q` vectors.
struct Dots<S: Simd, const Q: usize> {
    coarse: [S::I; Q],
    fine: [S::I; Q],
}

impl<S: Simd, const Q: usize> Dots<S, Q> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Dots { coarse: [s.splat_i32(0); Q], fine: [s.splat_i32(0); Q] }
    }

    /// Adds the products with the vectors' words from `first` on.
    #[inline(always)]
    fn add(&mut self, s: S, codes: &[[u8; 64]], x: &[Planes; Q], first: usize) {
        // Both planes at once if registers hold their sums, which saves a load; else one after the other.
        if S::TILE >= 12 {
            for (step, codes) in codes.iter().enumerate() {
                let codes = s.load_bytes(codes);
                for q in 0..Q {
                    self.coarse[q] = s.dot_bytes(self.coarse[q], codes, x[q].coarse[first + step]);
                }
                for q in 0..Q {
                    self.fine[q] = s.dot_bytes(self.fine[q], codes, x[q].fine[first + step]);
                }
            }
            return;
        }
        for (step, codes) in codes.iter().enumerate() {
            let codes = s.load_bytes(codes);
            for q in 0..Q {
                self.coarse[q] = s.dot_bytes(self.coarse[q], codes, x[q].coarse[first + step]);
            }
        }
        for (step, codes) in codes.iter().enumerate() {
            let codes = s.load_bytes(codes);
            for q in 0..Q {
                self.fine[q] = s.dot_bytes(self.fine[q], codes, x[q].fine[first + step]);
            }
        }
    }

    /// The product with vector `q` after all words were added, without the step.
    ///
    /// At most 256 numbers times a code up to 255 times 127 * 256 + 127: below 2^31.
    #[inline(always)]
    fn total(&self, s: S, q: usize, x: &Planes) -> S::F {
        let sum = s.add_i32(s.times_256(self.coarse[q]), self.fine[q]);
        s.to_f32(s.add_i32(sum, s.splat_i32(x.sum.wrapping_mul(-S::BYTE_ZERO))))
    }
}

/// Quantizes vectors of 16 numbers to bytes plus 128. Returns their scale, 0 for zeros.
struct Quantize<'r> {
    row: &'r [[f32; 16]],
    out: &'r mut [[u8; 16]; MAX_HEAD_DIM / 16],
}

impl Work for Quantize<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut largest = s.zero();
        for row in self.row {
            largest = s.max(largest, s.abs(s.load(row)));
        }
        let largest = s.largest(largest);
        let inverse = 127.0 / largest;
        let (scale, inverse) = if inverse.is_finite() { (largest / 127.0, inverse) } else { (0.0, 0.0) };
        for (row, out) in self.row.iter().zip(self.out) {
            let mut numbers = [0i8; 16];
            s.store_i8(s.mul(s.load(row), s.splat(inverse)), &mut numbers);
            *out = numbers.map(|number| number as u8 ^ 128);
        }
        scale
    }
}

/// Quantizes up to 256 numbers to bytes plus 128; stores their scale.
fn quantize<S: Simd>(s: S, row: &[[f32; 16]], place: Option<&mut f32>) -> [[u8; 16]; MAX_HEAD_DIM / 16] {
    let mut out = [[0; 16]; MAX_HEAD_DIM / 16];
    let scale = s.run(Quantize { row, out: &mut out });
    if let Some(place) = place {
        *place = scale;
    }
    out
}

pub(super) fn store<S: Simd>(s: S, job: &mut StoreJob<'_>) {
    let dim = job.head_dim;
    let (steps, panels) = (dim.div_ceil(STEP), dim.div_ceil(16));
    let (keys, _) = job.kv.keys.as_chunks_mut::<STEP>();
    for token in 0..job.tokens {
        let position = job.position + token;
        let from = token * job.stride + job.column..token * job.stride + job.column + dim;
        let mut row = [0.0; MAX_HEAD_DIM];
        job.rope.rotate(s, token, &job.keys[from.clone()], 1.0, &mut row);
        let block = &mut keys[position / BLOCK * steps * BLOCK..(position / BLOCK + 1) * steps * BLOCK];
        let numbers = quantize(s, &row.as_chunks::<16>().0[..panels], job.kv.key_scales.get_mut(position));
        for (places, numbers) in
            block.chunks_exact_mut(BLOCK).zip(numbers.as_flattened().as_chunks::<STEP>().0)
        {
            places[position % BLOCK] = *numbers;
        }
        let mut row = [0.0; MAX_HEAD_DIM];
        row[..dim].copy_from_slice(&job.values[from]);
        let (chunk, within) = (position / CHUNK * panels * CHUNK * 16, position % CHUNK);
        let chunk = &mut job.kv.values[chunk..chunk + panels * CHUNK * 16];
        let numbers = quantize(s, &row.as_chunks::<16>().0[..panels], job.kv.value_scales.get_mut(position));
        for (panel, numbers) in chunk.chunks_exact_mut(CHUNK * 16).zip(numbers) {
            let places = &mut panel[within / STEP * STEP * 16..][..STEP * 16];
            for (place, number) in places.iter_mut().skip(within % STEP).step_by(STEP).zip(numbers) {
                *place = number;
            }
        }
    }
}

pub(super) fn attend<S: Simd>(s: S, job: &AttendJob<'_>) {
    let queries = job.tokens.len() * job.group;
    let mut first = 0;
    while first < queries {
        let left = queries - first;
        first += match left {
            1 => s.run(Attend::<1> { job, first, left }),
            2 => s.run(Attend::<2> { job, first, left }),
            3 => s.run(Attend::<3> { job, first, left }),
            4 => s.run(Attend::<4> { job, first, left }),
            12.. if S::TILE >= 12 => s.run_wide(Attend::<12> { job, first, left }),
            _ => s.run(Attend::<6> { job, first, left }),
        };
    }
}

/// The probabilities of a run's first `blocks` blocks times the scales of its values, as planes. The first `skipped` blocks are
/// zeros already.
struct Weigh<'q> {
    query: &'q mut Query,
    /// For the positions from the skipped ones to the last that the query attends to.
    scales: &'q [f32],
    skipped: usize,
    blocks: usize,
    out: &'q mut Planes,
}

impl Work for Weigh<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Weigh { query, scales, skipped, blocks, out } = self;
        let (whole, rest) = scales.as_chunks::<16>();
        let scores = &mut query.scores[skipped..];
        for (scores, scales) in scores.iter_mut().zip(whole) {
            s.store(s.mul(s.load(scores), s.load(scales)), scores);
        }
        // Positions after the last have unspecified scales, which are not read.
        for (score, scale) in scores.as_flattened_mut()[whole.len() * 16..].iter_mut().zip(rest) {
            *score *= scale;
        }
        s.run(SetPlanes { planes: out, numbers: &query.scores[..blocks] });
    }
}

/// Attention of the queries `first..first + Q`, of which `left` exist. Returns the number computed.
struct Attend<'j, 'a, const Q: usize> {
    job: &'j AttendJob<'a>,
    first: usize,
    left: usize,
}

impl<const Q: usize> Work for Attend<'_, '_, Q> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let Attend { job, first, left } = self;
        let dim = job.head_dim;
        let (steps, panels) = (dim.div_ceil(STEP), dim.div_ceil(16));
        let mut tile = Tile::<Q>::zeros(first, left);
        tile.begin(s, job);
        let (keys, _) = job.kv.keys.as_chunks::<64>();
        let (values, _) = job.kv.values.as_chunks::<64>();

        let mut queries = [Planes::ZERO; Q];
        for (planes, query) in queries.iter_mut().zip(&tile.queries) {
            // Numbers past the head's width are zeros.
            s.run(SetPlanes { planes, numbers: &query.query.as_chunks::<16>().0[..panels] });
        }

        let mut weights = [Planes::ZERO; Q];
        for span in tile.spans() {
            for start in tile.runs(&span) {
                let blocks = RUN.min(tile.end - start).div_ceil(BLOCK);
                let skipped = tile.skipped(start);
                for b in skipped..blocks {
                    let at = start + b * BLOCK;
                    if Q <= MEMORY_BOUND {
                        // Keys two blocks on, and the values of these positions.
                        let bytes = steps * 64;
                        s.prefetch(&keys[at / BLOCK * steps], 2 * bytes, bytes);
                        s.prefetch(&values[at / STEP * panels], 0, bytes);
                    }
                    let mut dots = Dots::<S, Q>::new(s);
                    dots.add(s, &keys[at / BLOCK * steps..(at / BLOCK + 1) * steps], &queries, 0);
                    let scales = match job.kv.key_scales[at..].first_chunk::<16>() {
                        Some(scales) => s.load(scales),
                        None => s.zero(),
                    };
                    for q in 0..Q {
                        let scale = s.mul(scales, s.splat(queries[q].step));
                        let scores = s.mul(dots.total(s, q, &queries[q]), scale);
                        let query = &mut tile.queries[q];
                        query.put(s, b, scores, query.visible.saturating_sub(at));
                    }
                }
                for (query, out) in tile.queries.iter_mut().zip(&mut weights) {
                    let visible = query.visible.saturating_sub(start).min(RUN);
                    let hidden = query.hidden.saturating_sub(start);
                    s.run(Update { query, hidden, visible, blocks: skipped..blocks, chunks: panels });
                    let first = skipped * BLOCK;
                    let scales = &job.kv.value_scales[start + first..start + visible.max(first)];
                    s.run(Weigh { query, scales, skipped, blocks, out });
                }
                for c in 0..panels {
                    let mut dots = Dots::<S, Q>::new(s);
                    for chunk in skipped * BLOCK / CHUNK..(blocks * BLOCK).div_ceil(CHUNK) {
                        let panel = ((start / CHUNK + chunk) * panels + c) * STEPS;
                        let steps = (blocks * BLOCK / STEP - chunk * STEPS).min(STEPS);
                        dots.add(s, &values[panel..panel + steps], &weights, chunk * STEPS);
                    }
                    for q in 0..Q {
                        let total = dots.total(s, q, &weights[q]);
                        let values = &mut tile.queries[q].values[c];
                        let sum = s.mul_add(total, s.splat(weights[q].step), s.load(values));
                        s.store(sum, values);
                    }
                }
            }
            tile.end_span(s, job, &span);
        }
        tile.finish(s, job)
    }
}

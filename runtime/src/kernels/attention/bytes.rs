//! Keys and values as signed bytes (stored plus 128) with a scale for each position, multiplied in integers.
//!
//! Both lie as the panels of a matrix of bytes do: keys with positions for rows and dimensions for columns, values with
//! dimensions for rows and positions for columns. Queries and probabilities are quantized in two planes, as activations
//! are, so that what is lost is lost by the bytes of the cache alone.

use super::{AttendJob, BLOCK, BLOCKS, CHUNK, MAX_HEAD_DIM, MEMORY_BOUND, RUN, Softmax, StoreJob, Tile};
use crate::kernels::simd::Simd;

/// Columns of a panel that lie side by side: dimensions of a key, positions of values.
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

    /// Takes finite numbers; others become some code or other.
    #[inline(always)]
    fn set<S: Simd>(&mut self, s: S, numbers: &[[f32; 16]]) {
        let mut largest = s.zero();
        for numbers in numbers {
            largest = s.max(largest, s.abs(s.load(numbers)));
        }
        let largest = s.largest(largest);
        let inverse = 127.0 / largest;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        self.step = if inverse == 0.0 { 0.0 } else { largest / (127.0 * 256.0) };
        let coarse: &mut [[i8; 16]; BLOCKS] = zerocopy::transmute_mut!(&mut self.coarse);
        let fine: &mut [[i8; 16]; BLOCKS] = zerocopy::transmute_mut!(&mut self.fine);
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
        self.sum = s.sum(sum) as i32;
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
        // Together where registers hold both planes' sums, which saves a load; else one after the other.
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

    /// The products with vector `q`, all of whose words were added, without the step.
    ///
    /// At most 256 numbers times a code up to 255 times 127 * 256 + 127: below 2^31.
    #[inline(always)]
    fn total(&self, s: S, q: usize, x: &Planes) -> S::F {
        let sum = s.add_i32(s.times_256(self.coarse[q]), self.fine[q]);
        s.to_f32(s.add_i32(sum, s.splat_i32(x.sum.wrapping_mul(-S::BYTE_ZERO))))
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

/// Gives each 16 of a row's numbers as bytes plus 128, and their scale to `place`.
#[inline(always)]
fn quantize<S: Simd>(s: S, row: &[f32], place: Option<&mut f32>, mut each: impl FnMut(usize, [u8; 16])) {
    let (scale, inverse) = byte_scale(s, row);
    if let Some(place) = place {
        *place = scale;
    }
    for (index, row) in row.as_chunks::<16>().0.iter().enumerate() {
        let mut numbers = [0i8; 16];
        s.store_i8(s.mul(s.load(row), s.splat(inverse)), &mut numbers);
        each(index, numbers.map(|number| number as u8 ^ 128));
    }
}

#[inline(always)]
pub(super) fn store<S: Simd>(s: S, job: &mut StoreJob<'_>) {
    let dim = job.head_dim;
    let (steps, wide) = (dim.div_ceil(STEP), dim.next_multiple_of(16));
    let (keys, _) = job.kv.keys.as_chunks_mut::<STEP>();
    for token in 0..job.tokens {
        let position = job.position + token;
        let from = token * job.stride + job.column..token * job.stride + job.column + dim;
        let mut row = [0.0; MAX_HEAD_DIM];
        job.rope.rotate(token, &job.keys[from.clone()], 1.0, &mut row);
        let block = &mut keys[position / BLOCK * steps * BLOCK..(position / BLOCK + 1) * steps * BLOCK];
        quantize(s, &row[..wide], job.kv.key_scales.get_mut(position), |index, numbers| {
            let places = block.chunks_exact_mut(BLOCK).skip(index * 16 / STEP);
            for (places, numbers) in places.zip(numbers.as_chunks::<STEP>().0) {
                places[position % BLOCK] = *numbers;
            }
        });
        let mut row = [0.0; MAX_HEAD_DIM];
        row[..dim].copy_from_slice(&job.values[from]);
        let chunk =
            &mut job.kv.values[position / CHUNK * wide * CHUNK..(position / CHUNK + 1) * wide * CHUNK];
        let within = position % CHUNK;
        quantize(s, &row[..wide], job.kv.value_scales.get_mut(position), |index, numbers| {
            let start = (index * CHUNK + within / STEP * STEP) * 16;
            let places = chunk[start..start + 16 * STEP].iter_mut().skip(within % STEP).step_by(STEP);
            for (place, number) in places.zip(numbers) {
                *place = number;
            }
        });
    }
}

#[inline(always)]
pub(super) fn attend<S: Simd>(s: S, job: &AttendJob<'_>) {
    let queries = job.tokens.len() * job.group;
    let mut first = 0;
    while first < queries {
        let left = queries - first;
        first += match left {
            1 => tile::<S, 1>(s, job, first, left),
            2 => tile::<S, 2>(s, job, first, left),
            3 => tile::<S, 3>(s, job, first, left),
            4 => tile::<S, 4>(s, job, first, left),
            12.. if S::TILE >= 12 => tile::<S, 12>(s, job, first, left),
            _ => tile::<S, 6>(s, job, first, left),
        };
    }
}

/// Attention of the queries `first..first + Q`, of which `left` exist. Returns how many were computed.
#[inline(always)]
fn tile<S: Simd, const Q: usize>(s: S, job: &AttendJob<'_>, first: usize, left: usize) -> usize {
    let dim = job.head_dim;
    let (steps, panels) = (dim.div_ceil(STEP), dim.div_ceil(16));
    let tile = Tile::<Q>::new(job, first, left);
    let (keys, _) = job.kv.keys.as_chunks::<64>();
    let (values, _) = job.kv.values.as_chunks::<64>();

    let mut queries = [Planes::ZERO; Q];
    for q in 0..Q {
        // Numbers past the head's width are zeros.
        queries[q].set(s, &tile.queries[q].as_chunks::<16>().0[..panels]);
    }

    let mut state = Softmax::<Q>::new();
    let mut weights = [Planes::ZERO; Q];
    for span in tile.spans() {
        for start in span.clone().step_by(RUN) {
            let blocks = RUN.min(tile.end - start).div_ceil(BLOCK);
            for b in 0..blocks {
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
                    state.put(s, q, b, scores, tile.visible[q].saturating_sub(at));
                }
            }
            for q in 0..Q {
                let visible = tile.visible[q].saturating_sub(start).min(RUN);
                state.update(s, q, visible, blocks, panels);
                let scores = state.scores[q].as_chunks_mut::<16>().0;
                let scales = &job.kv.value_scales[start..start + visible];
                let (whole, rest) = scales.as_chunks::<16>();
                for (scores, scales) in scores.iter_mut().zip(whole) {
                    s.store(s.mul(s.load(scores), s.load(scales)), scores);
                }
                // What lies behind is not looked at: it may be anything.
                for (score, scale) in scores.as_flattened_mut()[whole.len() * 16..].iter_mut().zip(rest) {
                    *score *= scale;
                }
                weights[q].set(s, &state.scores[q].as_chunks::<16>().0[..blocks]);
            }
            for c in 0..panels {
                let mut dots = Dots::<S, Q>::new(s);
                for chunk in 0..(blocks * BLOCK).div_ceil(CHUNK) {
                    let panel = ((start / CHUNK + chunk) * panels + c) * STEPS;
                    let steps = (blocks * BLOCK / STEP - chunk * STEPS).min(STEPS);
                    dots.add(s, &values[panel..panel + steps], &weights, chunk * STEPS);
                }
                for q in 0..Q {
                    let sum = s.load(&state.values[q][c]);
                    let total = dots.total(s, q, &weights[q]);
                    s.store(s.mul_add(total, s.splat(weights[q].step), sum), &mut state.values[q][c]);
                }
            }
        }
        for q in 0..Q {
            if tile.visible[q] > span.start {
                state.end_span(q, panels);
            }
        }
    }
    tile.finish(job, &state);
    tile.count
}

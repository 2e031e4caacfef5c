//! Some queries, and what is known of their answers while span after span of positions is looked at.

use super::{Answer, AttendJob, BLOCKS, SPAN, fold, part_width};
use crate::format::MAX_HEAD_DIM;
use crate::kernels::simd::{Simd, Work};
use core::ops::Range;

/// A query, and what is known of its answer: the state of the online softmax and the weighted sum of values.
pub(super) struct Query {
    /// Rotated and scaled.
    pub(super) query: [f32; MAX_HEAD_DIM],
    /// Positions that it may look at.
    pub(super) visible: usize,
    /// Largest score and sum of the exponentials of the spans that are done.
    pub(super) whole_sums: (f32, f32),
    /// Weighted values of the spans that are done.
    pub(super) whole: [[f32; 16]; MAX_HEAD_DIM / 16],
    /// The same of the span that is not.
    pub(super) largest: f32,
    pub(super) sum: f32,
    pub(super) values: [[f32; 16]; MAX_HEAD_DIM / 16],
    /// Scores, then probabilities, of the run.
    pub(super) scores: [[f32; 16]; BLOCKS],
}

impl Query {
    /// Of all zeros, which is quick to make; [`begin`] does the rest.
    const ZERO: Query = Query {
        query: [0.0; MAX_HEAD_DIM],
        visible: 0,
        whole_sums: (0.0, 0.0),
        whole: [[0.0; 16]; MAX_HEAD_DIM / 16],
        largest: 0.0,
        sum: 0.0,
        values: [[0.0; 16]; MAX_HEAD_DIM / 16],
        scores: [[0.0; 16]; BLOCKS],
    };

    /// Takes the scores of block `b` of the run, of which the first `visible` count.
    #[inline(always)]
    pub(super) fn put<S: Simd>(&mut self, s: S, b: usize, scores: S::F, visible: usize) {
        let places = &mut self.scores[b];
        s.store(scores, places);
        if visible < 16 {
            places[visible..].fill(f32::MIN);
        }
    }
}

/// Some queries of a job, in the order of tokens and, within a token, of the heads of the group.
pub(super) struct Tile<const Q: usize> {
    /// The first.
    pub(super) first: usize,
    /// How many there are; the others are zeros.
    pub(super) count: usize,
    pub(super) queries: [Query; Q],
    /// Positions that any of them may look at.
    pub(super) end: usize,
}

impl<const Q: usize> Tile<Q> {
    /// The queries `first..first + Q` of a job, of which only `left` exist; [`Tile::begin`] is next.
    #[inline(always)]
    pub(super) fn zeros(first: usize, left: usize) -> Tile<Q> {
        Tile { first, count: left.min(Q), queries: [Query::ZERO; Q], end: 0 }
    }

    /// Rotates and scales the queries.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(&mut self, s: S, job: &AttendJob<'_>) {
        self.end = begin(s, job, self.first, &mut self.queries[..self.count]);
    }

    /// The spans of positions that are looked at, one after the other.
    #[inline(always)]
    pub(super) fn spans(&self) -> impl Iterator<Item = Range<usize>> + use<Q> {
        let end = self.end;
        (0..end).step_by(SPAN).map(move |start| start..(start + SPAN).min(end))
    }

    /// Ends a span: the next one begins anew.
    #[inline(always)]
    pub(super) fn end_span<S: Simd>(&mut self, s: S, job: &AttendJob<'_>, span: &Range<usize>) {
        s.run(EndSpan { queries: &mut self.queries, chunks: job.head_dim.div_ceil(16), start: span.start });
    }

    /// Writes what was found, and returns how many queries that is.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&self, s: S, job: &AttendJob<'_>) -> usize {
        s.run(Finish { job, first: self.first, queries: &self.queries[..self.count] });
        self.count
    }
}

/// The token of query `index` of a job, and where its numbers begin in queries and output.
#[inline(always)]
fn place(job: &AttendJob<'_>, index: usize) -> (usize, usize) {
    let (token, head) = (job.tokens.start + index / job.group, index % job.group);
    (token, token * job.stride + job.column + head * job.head_dim)
}

/// Rotates and scales the queries from `first` on. Returns how many positions the last of them may look at.
#[inline(never)]
fn begin<S: Simd>(s: S, job: &AttendJob<'_>, first: usize, queries: &mut [Query]) -> usize {
    let scale = 1.0 / libm::sqrtf(job.head_dim as f32);
    let mut end = 0;
    for (q, query) in queries.iter_mut().enumerate() {
        let (token, from) = place(job, first + q);
        query.visible = job.position + token + 1;
        (query.whole_sums.0, query.largest) = (f32::MIN, f32::MIN);
        end = query.visible.min(job.positions);
        job.rope.rotate(s, token, &job.queries[from..from + job.head_dim], scale, &mut query.query);
    }
    end
}

/// See [`Tile::finish`].
struct Finish<'t, 'a> {
    job: &'t AttendJob<'a>,
    first: usize,
    queries: &'t [Query],
}

impl Work for Finish<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Finish { job, first, queries } = self;
        for (q, query) in queries.iter().enumerate() {
            let values = query.whole.as_flattened();
            match job.output {
                Answer::Whole(output) => {
                    let (_, at) = place(job, first + q);
                    // SAFETY: these places belong to one token and one query head, which one shard's job computes.
                    let out = unsafe { output.slice(at, job.head_dim) };
                    let inverse = 1.0 / query.whole_sums.1;
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = value * inverse;
                    }
                }
                Answer::Part(part) => {
                    let width = part_width(job.head_dim);
                    // SAFETY: the part belongs to this job, and each of its queries has its own places.
                    let out = unsafe { part.slice((first + q) * width, width) };
                    let (largest, sum) = query.whole_sums;
                    out[..2].copy_from_slice(&[largest, sum]);
                    out[2..].copy_from_slice(&values[..job.head_dim]);
                }
            }
        }
    }
}

/// Adds what a span gave to the spans before it, for every query that saw something of it.
struct EndSpan<'t> {
    queries: &'t mut [Query],
    /// Vectors of a head.
    chunks: usize,
    /// First position of the span.
    start: usize,
}

impl Work for EndSpan<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for query in self.queries.iter_mut().filter(|query| query.visible > self.start) {
            let values = &mut query.values[..self.chunks];
            let part = (query.largest, query.sum);
            let whole = query.whole[..self.chunks].as_flattened_mut();
            query.whole_sums = fold(query.whole_sums, whole, part, values.as_flattened());
            (query.largest, query.sum) = (f32::MIN, 0.0);
            values.fill([0.0; 16]);
        }
    }
}

/// Turns the scores of the run's first `blocks` blocks into probabilities relative to the largest score so far, and
/// rescales the `chunks` vectors that were summed before. `visible` positions of the run count.
pub(super) struct Update<'t> {
    pub(super) query: &'t mut Query,
    pub(super) visible: usize,
    pub(super) blocks: usize,
    pub(super) chunks: usize,
}

impl Work for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Update { query, visible, blocks, chunks } = self;
        let scores = &mut query.scores[..blocks];
        let mut largest = s.splat(query.largest);
        for scores in &*scores {
            largest = s.max(largest, s.load(scores));
        }
        let largest = s.largest(largest);
        let before = query.largest;
        let mut sum = s.zero();
        for (b, scores) in scores.iter_mut().enumerate() {
            let p = s.exp(s.sub(s.load(scores), s.splat(largest)));
            s.store(p, scores);
            if visible < (b + 1) * 16 {
                // Masked scores give about 1e-38, not 0.
                scores[visible.saturating_sub(b * 16)..].fill(0.0);
            }
            sum = s.add(sum, s.load(scores));
        }
        let shrink = s.array(s.exp(s.splat(before - largest)))[0];
        query.sum = query.sum * shrink + s.sum(sum);
        query.largest = largest;
        if largest > before {
            for values in &mut query.values[..chunks] {
                s.store(s.mul(s.load(values), s.splat(shrink)), values);
            }
        }
    }
}

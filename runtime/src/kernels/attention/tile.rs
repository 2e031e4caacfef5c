//! A tile of queries with the running state of attention over spans of positions.

use super::{AttendJob, AttendOutput, BLOCK, BLOCKS, CHUNK, RUN, SPAN, fold, partial_width};
use crate::format::MAX_HEAD_DIM;
use crate::kernels::simd::{Simd, Work};
use core::ops::Range;

/// A query with its state of the online softmax and its weighted sum of values.
pub(super) struct Query {
    /// Rotated and scaled.
    pub(super) query: [f32; MAX_HEAD_DIM],
    /// The end of the positions that it attends to.
    pub(super) visible: usize,
    /// The positions before its window.
    pub(super) hidden: usize,
    /// Largest score and sum of exponentials of finished spans.
    pub(super) total_sums: (f32, f32),
    /// Weighted values of finished spans.
    pub(super) total: [[f32; 16]; MAX_HEAD_DIM / 16],
    /// Largest score, sum of exponentials and weighted values of the current span.
    pub(super) largest: f32,
    pub(super) sum: f32,
    pub(super) values: [[f32; 16]; MAX_HEAD_DIM / 16],
    /// Scores, then probabilities, of the current run.
    pub(super) scores: [[f32; 16]; BLOCKS],
}

impl Query {
    /// All zeros, which compiles to a fast fill; [`begin`] sets the rest.
    const ZERO: Query = Query {
        query: [0.0; MAX_HEAD_DIM],
        visible: 0,
        hidden: 0,
        total_sums: (0.0, 0.0),
        total: [[0.0; 16]; MAX_HEAD_DIM / 16],
        largest: 0.0,
        sum: 0.0,
        values: [[0.0; 16]; MAX_HEAD_DIM / 16],
        scores: [[0.0; 16]; BLOCKS],
    };

    /// Stores the scores of block `b` of the run; masks all but the first `visible`.
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
    /// Index of the first query.
    pub(super) first: usize,
    /// Number of queries; the others are zeros.
    pub(super) count: usize,
    pub(super) queries: [Query; Q],
    /// First position that any of them attends to: 0 without a window.
    start: usize,
    /// The end of the positions that any of them attends to.
    pub(super) end: usize,
}

impl<const Q: usize> Tile<Q> {
    /// The queries `first..first + Q` of a job, of which only `left` exist; [`Tile::begin`] is next.
    #[inline(always)]
    pub(super) fn zeros(first: usize, left: usize) -> Tile<Q> {
        Tile { first, count: left.min(Q), queries: [Query::ZERO; Q], start: 0, end: 0 }
    }

    /// Rotates and scales the queries.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(&mut self, s: S, job: &AttendJob<'_>) {
        (self.start, self.end) = begin(s, job, self.first, &mut self.queries[..self.count]);
    }

    /// The spans of positions that any query attends to, in order.
    #[inline(always)]
    pub(super) fn spans(&self) -> impl Iterator<Item = Range<usize>> + use<Q> {
        let (start, end) = (self.start / SPAN * SPAN, self.end);
        (start..end).step_by(SPAN).map(move |start| start..(start + SPAN).min(end))
    }

    /// The starts of a span's runs that any query attends to, in order.
    #[inline(always)]
    pub(super) fn runs(&self, span: &Range<usize>) -> impl Iterator<Item = usize> + use<Q> {
        (span.start.max(self.start / RUN * RUN)..span.end).step_by(RUN)
    }

    /// Blocks of the run at `start` that no query attends to, at its front: whole chunks, because the positions of a chunk
    /// before the windows of all queries may never have been written.
    #[inline(always)]
    pub(super) fn skipped(&self, start: usize) -> usize {
        self.start.saturating_sub(start) / CHUNK * (CHUNK / BLOCK)
    }

    /// Ends a span: adds its state to that of finished spans.
    #[inline(always)]
    pub(super) fn end_span<S: Simd>(&mut self, s: S, job: &AttendJob<'_>, span: &Range<usize>) {
        s.run(EndSpan { queries: &mut self.queries, chunks: job.head_dim.div_ceil(16), start: span.start });
    }

    /// Writes the results; returns the number of queries.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&self, s: S, job: &AttendJob<'_>) -> usize {
        s.run(WriteOutput { job, first: self.first, queries: &self.queries[..self.count] });
        self.count
    }
}

/// The token of query `index` of a job, and its offset in queries and output.
#[inline(always)]
fn token_and_offset(job: &AttendJob<'_>, index: usize) -> (usize, usize) {
    let (token, head) = (job.tokens.start + index / job.group, index % job.group);
    (token, token * job.stride + job.column + head * job.head_dim)
}

/// Rotates and scales the queries from `first` on. Returns the first position that the first one attends to, and the end of
/// those of the last.
#[inline(never)]
fn begin<S: Simd>(s: S, job: &AttendJob<'_>, first: usize, queries: &mut [Query]) -> (usize, usize) {
    let mut end = 0;
    for (q, query) in queries.iter_mut().enumerate() {
        let (token, from) = token_and_offset(job, first + q);
        query.visible = job.position + token + 1;
        query.hidden = query.visible.saturating_sub(job.window);
        (query.total_sums.0, query.largest) = (f32::MIN, f32::MIN);
        end = query.visible.min(job.positions);
        job.rope.rotate(s, token, &job.queries[from..from + job.head_dim], job.scale, &mut query.query);
    }
    (queries.first().map_or(0, |query| query.hidden), end)
}

/// See [`Tile::finish`].
struct WriteOutput<'t, 'a> {
    job: &'t AttendJob<'a>,
    first: usize,
    queries: &'t [Query],
}

impl Work for WriteOutput<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let WriteOutput { job, first, queries } = self;
        for (q, query) in queries.iter().enumerate() {
            let values = query.total.as_flattened();
            match job.output {
                AttendOutput::Final(output) => {
                    let (_, at) = token_and_offset(job, first + q);
                    // SAFETY: these elements belong to one token and one query head, which one shard's job computes.
                    let out = unsafe { output.slice(at, job.head_dim) };
                    let inverse = 1.0 / query.total_sums.1;
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = value * inverse;
                    }
                }
                AttendOutput::Partial(partial) => {
                    let width = partial_width(job.head_dim);
                    // SAFETY: the partial result belongs to this job, and each of its queries has its own elements.
                    let out = unsafe { partial.slice((first + q) * width, width) };
                    let (largest, sum) = query.total_sums;
                    out[..2].copy_from_slice(&[largest, sum]);
                    out[2..].copy_from_slice(&values[..job.head_dim]);
                }
            }
        }
    }
}

/// Adds a span's state to that of finished spans, for every query that attends to the span.
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
            let partial = (query.largest, query.sum);
            let total = query.total[..self.chunks].as_flattened_mut();
            query.total_sums = fold(query.total_sums, total, partial, values.as_flattened());
            (query.largest, query.sum) = (f32::MIN, 0.0);
            values.fill([0.0; 16]);
        }
    }
}

/// Turns the scores of the run's `blocks` into probabilities relative to the largest score so far, and rescales the `chunks`
/// vectors of weighted values. Masks the run's positions before `hidden` and from `visible` on.
pub(super) struct Update<'t> {
    pub(super) query: &'t mut Query,
    pub(super) hidden: usize,
    pub(super) visible: usize,
    pub(super) blocks: Range<usize>,
    pub(super) chunks: usize,
}

impl Work for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Update { query, hidden, visible, blocks, chunks } = self;
        let (first, count) = (blocks.start, blocks.len());
        if hidden > 0 {
            query.scores.as_flattened_mut()[..hidden.min(RUN)].fill(f32::MIN);
        }
        let scores = &mut query.scores[blocks];
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
            if visible < (first + b + 1) * 16 {
                // Masked scores give about 1e-38, not 0.
                scores[visible.saturating_sub((first + b) * 16)..].fill(0.0);
            }
            sum = s.add(sum, s.load(scores));
        }
        if hidden > 0 {
            // Seldom: only runs that the window begins in or after come here.
            query.scores.as_flattened_mut()[..hidden.min(RUN)].fill(0.0);
            sum = s.zero();
            for scores in &query.scores[first..first + count] {
                sum = s.add(sum, s.load(scores));
            }
        }
        let rescale = s.array(s.exp(s.splat(before - largest)))[0];
        query.sum = query.sum * rescale + s.sum(sum);
        query.largest = largest;
        if largest > before {
            for values in &mut query.values[..chunks] {
                s.store(s.mul(s.load(values), s.splat(rescale)), values);
            }
        }
    }
}

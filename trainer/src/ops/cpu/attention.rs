//! Causal attention in blocks, forward (Dao 2023, algorithm 1) and backward (algorithm 2): scores exist only for a
//! block of queries and a block of keys at a time. Grouped queries read their key head in place.

use super::super::AttentionShape;
use super::gemm::{MatrixView, WriteMode, matmul};
use super::math::{exp_sum, max, sum_zip};
use super::simd::Simd;
use super::threads::Threads;
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block; also the rows that one forward task writes.
const QUERIES: usize = 128;
/// Keys of a block.
const KEYS: usize = 256;

/// Inputs of both passes: heads head by head, and for each token the first position of its document.
#[derive(Clone, Copy)]
pub(super) struct AttentionInput<'a> {
    pub(super) shape: AttentionShape,
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) document_start: &'a [u32],
}

impl<'a> AttentionInput<'a> {
    /// One head's `context x head_dim` matrix out of `all`, which has `count` heads a sequence.
    fn head(&self, all: &'a [f32], count: usize, sequence: usize, head: usize) -> MatrixView<'a> {
        let size = self.shape.context * self.shape.head_dim;
        MatrixView::new(&all[(sequence * count + head) * size..][..size], self.shape.head_dim)
    }

    /// First position that the query at `position` sees.
    #[inline(always)]
    fn first(&self, sequence: usize, position: usize) -> usize {
        let document = if self.shape.document_mask {
            self.document_start[sequence * self.shape.context + position] as usize
        } else {
            0
        };
        document.max(self.shape.options.first_attended(position))
    }

    /// The blocks of keys that some query of the block sees. Documents and windows begin in order, so the first query
    /// sees farthest back.
    fn key_blocks(
        &self,
        sequence: usize,
        queries: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let first = self.first(sequence, queries.start);
        let end = queries.end;
        (first..end).step_by(KEYS).map(move |from| from..(from + KEYS).min(end))
    }

    /// The columns of a block that the query at `position` sees.
    #[inline(always)]
    fn visible(&self, sequence: usize, position: usize, keys: &Range<usize>) -> Range<usize> {
        let to = (position + 1).clamp(keys.start, keys.end) - keys.start;
        let from = self.first(sequence, position).clamp(keys.start, keys.end) - keys.start;
        from.min(to)..to
    }
}

/// Writes the attended values token by token and the log of each softmax's denominator, `tokens x heads`.
pub(super) fn forward(threads: &Threads, input: AttentionInput, out: &mut [f32], log_sum: &mut [f32]) {
    let shape = input.shape;
    let width = shape.heads * shape.head_dim;
    threads.run(|simd| {
        let sequences = out
            .par_chunks_mut(shape.context * width)
            .zip(log_sum.par_chunks_mut(shape.context * shape.heads));
        sequences.enumerate().for_each(|(sequence, (out, log_sum))| {
            let blocks =
                out.par_chunks_mut(QUERIES * width).zip(log_sum.par_chunks_mut(QUERIES * shape.heads));
            blocks.enumerate().for_each(|(block, (out, log_sum))| {
                let first = block * QUERIES;
                let queries = first..first + out.len() / width;
                let mut scores = [0.0; QUERIES * KEYS];
                for head in 0..shape.heads {
                    forward_block(
                        simd,
                        &input,
                        Block { sequence, head, queries: queries.clone() },
                        &mut scores,
                        out,
                        log_sum,
                    );
                }
            });
        });
    });
}

/// A block of queries of one head.
struct Block {
    sequence: usize,
    head: usize,
    queries: Range<usize>,
}

fn forward_block(
    simd: Simd,
    input: &AttentionInput,
    block: Block,
    scores: &mut [f32],
    out: &mut [f32],
    log_sum: &mut [f32],
) {
    let shape = input.shape;
    let (dim, width) = (shape.head_dim, shape.heads * shape.head_dim);
    let Block { sequence, head, queries } = block;
    let kv_head = head / (shape.heads / shape.kv_heads);
    let key = input.head(input.key, shape.kv_heads, sequence, kv_head);
    let value = input.head(input.value, shape.kv_heads, sequence, kv_head);
    let query = input.head(input.query, shape.heads, sequence, head).rows(queries.start, queries.end);
    let out = &mut out[head * dim..];
    let (mut largest, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
    for (turn, keys) in input.key_blocks(sequence, queries.clone()).enumerate() {
        let columns = keys.len();
        matmul(
            scores,
            columns,
            WriteMode::Replace,
            shape.scale(),
            query,
            key.rows(keys.start, keys.end).transpose(),
        );
        simd.dispatch(
            #[inline(always)]
            || {
                for (row, position) in queries.clone().enumerate() {
                    let scores = &mut scores[row * columns..][..columns];
                    let seen = input.visible(sequence, position, &keys);
                    scores[..seen.start].fill(0.0);
                    scores[seen.end..].fill(0.0);
                    if seen.is_empty() {
                        continue;
                    }
                    let scores = &mut scores[seen];
                    let new = largest[row].max(max(scores));
                    // e^(-inf) is not exactly 0 in our exp; there is nothing to shrink at first.
                    let shrink = if turn == 0 { 0.0 } else { super::math::exp(largest[row] - new) };
                    sums[row] = sums[row] * shrink + exp_sum(scores, new);
                    if turn > 0 && new > largest[row] {
                        out[row * width..][..dim].iter_mut().for_each(|x| *x *= shrink);
                    }
                    largest[row] = new;
                }
            },
        );
        let into = if turn == 0 { WriteMode::Replace } else { WriteMode::Add };
        let scores = MatrixView::strided(scores, queries.len(), columns, columns);
        matmul(out, width, into, 1.0, scores, value.rows(keys.start, keys.end));
    }
    for row in 0..queries.len() {
        let inverse = 1.0 / sums[row];
        out[row * width..][..dim].iter_mut().for_each(|x| *x *= inverse);
        log_sum[row * shape.heads + head] = largest[row] + sums[row].ln();
    }
}

/// Further inputs of the backward pass.
#[derive(Clone, Copy)]
pub(super) struct BackwardInput<'a> {
    pub(super) out: &'a [f32],
    pub(super) log_sum: &'a [f32],
    pub(super) d_out: &'a [f32],
}

/// Writes the gradients of queries, keys and values, head by head. One task has a key head and all its query heads, so
/// nothing is added up across tasks.
pub(super) fn backward(
    threads: &Threads,
    input: AttentionInput,
    attended: BackwardInput,
    d_heads: [&mut [f32]; 3],
) {
    let size = input.shape.context * input.shape.head_dim;
    let group = input.shape.heads / input.shape.kv_heads;
    let [d_query, d_key, d_value] = d_heads;
    threads.run(|simd| {
        let outputs = d_query
            .par_chunks_mut(group * size)
            .zip(d_key.par_chunks_mut(size))
            .zip(d_value.par_chunks_mut(size));
        outputs.enumerate().for_each(|(task, ((d_query, d_key), d_value))| {
            let (sequence, kv_head) = (task / input.shape.kv_heads, task % input.shape.kv_heads);
            d_query.fill(0.0);
            d_key.fill(0.0);
            d_value.fill(0.0);
            for (member, d_query) in d_query.chunks_exact_mut(size).enumerate() {
                let head = Head { sequence, kv_head, head: kv_head * group + member };
                backward_head(simd, &input, &attended, head, [d_query, d_key, d_value]);
            }
        });
    });
}

struct Head {
    sequence: usize,
    kv_head: usize,
    head: usize,
}

fn backward_head(
    simd: Simd,
    input: &AttentionInput,
    attended: &BackwardInput,
    at: Head,
    d_heads: [&mut [f32]; 3],
) {
    let shape = input.shape;
    let (dim, context, width) = (shape.head_dim, shape.context, shape.heads * shape.head_dim);
    let Head { sequence, kv_head, head } = at;
    let [d_query, d_key, d_value] = d_heads;
    let key = input.head(input.key, shape.kv_heads, sequence, kv_head);
    let value = input.head(input.value, shape.kv_heads, sequence, kv_head);
    let query = input.head(input.query, shape.heads, sequence, head);
    let mut weights = [0.0; QUERIES * KEYS];
    let mut d_weights = [0.0; QUERIES * KEYS];
    for from in (0..context).step_by(QUERIES) {
        let queries = from..(from + QUERIES).min(context);
        let first = (sequence * context + from) * width + head * dim;
        let d_out = MatrixView::strided(&attended.d_out[first..], queries.len(), dim, width);
        let mut dots = [0.0; QUERIES];
        simd.dispatch(
            #[inline(always)]
            || {
                for (row, dot) in dots[..queries.len()].iter_mut().enumerate() {
                    let at = first + row * width..first + row * width + dim;
                    *dot = sum_zip(&attended.d_out[at.clone()], &attended.out[at], |a, b| a * b);
                }
            },
        );
        let log_sum = |row: usize| attended.log_sum[(sequence * context + from + row) * shape.heads + head];
        let query = query.rows(queries.start, queries.end);
        for keys in input.key_blocks(sequence, queries.clone()) {
            let columns = keys.len();
            let key = key.rows(keys.start, keys.end);
            let block = keys.start * dim..keys.end * dim;
            matmul(&mut weights, columns, WriteMode::Replace, shape.scale(), query, key.transpose());
            let value = value.rows(keys.start, keys.end);
            matmul(&mut d_weights, columns, WriteMode::Replace, 1.0, d_out, value.transpose());
            simd.dispatch(
                #[inline(always)]
                || {
                    for (row, position) in queries.clone().enumerate() {
                        let (shift, dot) = (log_sum(row), dots[row]);
                        let seen = input.visible(sequence, position, &keys);
                        let weights = &mut weights[row * columns..][..columns];
                        let d_weights = &mut d_weights[row * columns..][..columns];
                        for hidden in [0..seen.start, seen.end..columns] {
                            weights[hidden.clone()].fill(0.0);
                            d_weights[hidden].fill(0.0);
                        }
                        for (weight, d) in weights[seen.clone()].iter_mut().zip(&mut d_weights[seen]) {
                            *weight = super::math::exp(*weight - shift);
                            *d = *weight * (*d - dot);
                        }
                    }
                },
            );
            let weights = MatrixView::strided(&weights, queries.len(), columns, columns);
            let d_scores = MatrixView::strided(&d_weights, queries.len(), columns, columns);
            matmul(&mut d_value[block.clone()], dim, WriteMode::Add, 1.0, weights.transpose(), d_out);
            matmul(&mut d_key[block], dim, WriteMode::Add, shape.scale(), d_scores.transpose(), query);
            let d_query = &mut d_query[queries.start * dim..queries.end * dim];
            matmul(d_query, dim, WriteMode::Add, shape.scale(), d_scores, key);
        }
    }
}

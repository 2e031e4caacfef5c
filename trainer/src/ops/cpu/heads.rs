//! Between the fused projection, token by token, and the heads, head by head, with the rotary embedding.

use super::super::AttentionShape;
use super::threads::Threads;
use rayon::prelude::*;

/// Cosines and sines, `context x head_dim / 2` each.
#[derive(Debug, Default)]
pub(super) struct Rotary {
    half: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl Rotary {
    /// Frequencies and angles in f32, as transformers computes them.
    pub(super) fn new(theta: f64, head_dim: usize, context: usize) -> Rotary {
        let half = head_dim / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / head_dim as f32);
        let angles = || (0..context * half).map(move |at| (at / half) as f32 * frequency(at % half));
        Rotary { half, cosine: angles().map(f32::cos).collect(), sine: angles().map(f32::sin).collect() }
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let at = position * self.half..(position + 1) * self.half;
        (&self.cosine[at.clone()], &self.sine[at])
    }

    #[inline(always)]
    fn turn(&self, position: usize, x: &[f32], out: &mut [f32]) {
        let (cosine, sine) = self.at(position);
        let (x1, x2) = x.split_at(self.half);
        let (out1, out2) = out.split_at_mut(self.half);
        let angles = cosine.iter().zip(sine);
        for ((x, out), (&cosine, &sine)) in x1.iter().zip(x2).zip(out1.iter_mut().zip(out2)).zip(angles) {
            *out.0 = x.0 * cosine - x.1 * sine;
            *out.1 = x.1 * cosine + x.0 * sine;
        }
    }

    #[inline(always)]
    fn turn_back(&self, position: usize, x: &[f32], out: &mut [f32]) {
        let (cosine, sine) = self.at(position);
        let (x1, x2) = x.split_at(self.half);
        let (out1, out2) = out.split_at_mut(self.half);
        let angles = cosine.iter().zip(sine);
        for ((x, out), (&cosine, &sine)) in x1.iter().zip(x2).zip(out1.iter_mut().zip(out2)).zip(angles) {
            *out.0 = x.0 * cosine + x.1 * sine;
            *out.1 = x.1 * cosine - x.0 * sine;
        }
    }
}

/// Splits and rotates; `heads` is query, key, value.
pub(super) fn split(
    threads: &Threads,
    rotary: &Rotary,
    shape: AttentionShape,
    fused: &[f32],
    heads: [&mut [f32]; 3],
) {
    let (dim, context) = (shape.head_dim, shape.context);
    let width = (shape.heads + 2 * shape.kv_heads) * dim;
    let mut first = 0;
    for (kind, out) in heads.into_iter().enumerate() {
        let count = if kind == 0 { shape.heads } else { shape.kv_heads };
        threads.run(|simd| {
            out.par_chunks_mut(context * dim).enumerate().for_each(|(task, out)| {
                let (sequence, head) = (task / count, first + task % count);
                simd.dispatch(
                    #[inline(always)]
                    || {
                        for (position, out) in out.chunks_exact_mut(dim).enumerate() {
                            let x = &fused[(sequence * context + position) * width + head * dim..][..dim];
                            if kind == 2 { out.copy_from_slice(x) } else { rotary.turn(position, x, out) }
                        }
                    },
                );
            });
        });
        first += count;
    }
}

/// Rotates gradients back and puts them side by side.
pub(super) fn join(
    threads: &Threads,
    rotary: &Rotary,
    shape: AttentionShape,
    heads: [&[f32]; 3],
    fused: &mut [f32],
) {
    let (dim, context) = (shape.head_dim, shape.context);
    let width = (shape.heads + 2 * shape.kv_heads) * dim;
    threads.run(|simd| {
        fused.par_chunks_mut(super::threads::ROWS * width).enumerate().for_each(|(task, fused)| {
            simd.dispatch(
                #[inline(always)]
                || {
                    for (row, fused) in fused.chunks_exact_mut(width).enumerate() {
                        let token = task * super::threads::ROWS + row;
                        let (sequence, position) = (token / context, token % context);
                        let mut rest = fused;
                        for (kind, x) in heads.into_iter().enumerate() {
                            let count = if kind == 0 { shape.heads } else { shape.kv_heads };
                            let (mine, after) = rest.split_at_mut(count * dim);
                            rest = after;
                            for (head, out) in mine.chunks_exact_mut(dim).enumerate() {
                                let x = &x[((sequence * count + head) * context + position) * dim..][..dim];
                                if kind == 2 {
                                    out.copy_from_slice(x)
                                } else {
                                    rotary.turn_back(position, x, out)
                                }
                            }
                        }
                    }
                },
            );
        });
    });
}

//! Between the fused projection, token by token, and the heads, head by head, with the rotary embedding.

use super::super::AttentionShape;
use super::super::rotary::tables;
use super::threads::Threads;
use rayon::prelude::*;
use thimble_runtime::format::RopeParameters;

/// Cosines and sines, `context x head_dim / 2` each.
#[derive(Debug, Default)]
pub(super) struct Rotary {
    half: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl Rotary {
    pub(super) fn new(rope: &RopeParameters, head_dim: usize, context: usize) -> Rotary {
        let (cosine, sine) = tables(rope, head_dim, context);
        Rotary { half: head_dim / 2, cosine, sine }
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

    /// Turns `x` where it lies, forward or back.
    #[inline(always)]
    fn turn_in_place(&self, position: usize, back: bool, x: &mut [f32]) {
        let (cosine, sine) = self.at(position);
        let sign = if back { -1.0 } else { 1.0 };
        let (x1, x2) = x.split_at_mut(self.half);
        for ((x1, x2), (&cosine, &sine)) in x1.iter_mut().zip(x2).zip(cosine.iter().zip(sine)) {
            let (a, b, sine) = (*x1, *x2, sign * sine);
            (*x1, *x2) = (a * cosine - b * sine, b * cosine + a * sine);
        }
    }
}

/// Rotates heads where they lie, forward or back.
pub(super) fn rotate(
    threads: &Threads,
    rotary: &Rotary,
    shape: AttentionShape,
    back: bool,
    heads: [&mut [f32]; 2],
) {
    let (dim, context) = (shape.head_dim, shape.context);
    for heads in heads {
        threads.run(|simd| {
            heads.par_chunks_mut(context * dim).for_each(|head| {
                simd.dispatch(
                    #[inline(always)]
                    || {
                        for (position, x) in head.chunks_exact_mut(dim).enumerate() {
                            rotary.turn_in_place(position, back, x);
                        }
                    },
                );
            });
        });
    }
}

/// Splits, and rotates if there is a rotation; `heads` is query, key, value.
pub(super) fn split(
    threads: &Threads,
    rotary: Option<&Rotary>,
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
                            match rotary.filter(|_| kind < 2) {
                                Some(rotary) => rotary.turn(position, x, out),
                                None => out.copy_from_slice(x),
                            }
                        }
                    },
                );
            });
        });
        first += count;
    }
}

/// Rotates gradients back if there is a rotation, and puts them side by side.
pub(super) fn join(
    threads: &Threads,
    rotary: Option<&Rotary>,
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
                                match rotary.filter(|_| kind < 2) {
                                    Some(rotary) => rotary.turn_back(position, x, out),
                                    None => out.copy_from_slice(x),
                                }
                            }
                        }
                    }
                },
            );
        });
    });
}

//! AdamW over the flat buffers, and the norm of the gradient.

use super::super::AdamW;
use super::math::sum_zip;
use super::threads::Threads;
use rayon::prelude::*;

/// Elements of one task: fixed, so that sums do not depend on threads.
const CHUNK: usize = 1 << 14;

/// Sum of squares: f32 within a chunk's lanes, f64 across chunks, in order.
pub(super) fn square_sum(threads: &Threads, values: &[f32], partial: &mut Vec<f64>) -> f64 {
    threads.run(|simd| {
        let sums = values.par_chunks(CHUNK).map(|chunk| {
            simd.dispatch(
                #[inline(always)]
                || chunk.chunks(1024).map(|part| f64::from(sum_zip(part, part, |a, b| a * b))).sum::<f64>(),
            )
        });
        sums.collect_into_vec(partial);
    });
    partial.iter().sum()
}

/// The four flat buffers.
pub(super) struct FlatBuffers<'a> {
    pub(super) weights: &'a mut [f32],
    pub(super) gradients: &'a [f32],
    pub(super) first: &'a mut [f32],
    pub(super) second: &'a mut [f32],
}

/// AdamW (Loshchilov and Hutter 2019, algorithm 2, with the learning rate in the decay, as PyTorch has it).
pub(super) fn adamw(threads: &Threads, step: &AdamW, state: FlatBuffers) {
    // 1 - beta in f64: in f32 it would be off by more than its last bit.
    let (rest1, rest2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    let beta2 = step.beta2 as f32;
    let correction1 = 1.0 - step.beta1.powf(step.step as f64);
    let correction2 = 1.0 - step.beta2.powf(step.step as f64);
    let rate = (step.learning_rate / correction1) as f32;
    let root = correction2.sqrt() as f32;
    let epsilon = step.epsilon as f32;
    let keep = (1.0 - step.learning_rate * step.weight_decay) as f32;
    threads.run(|simd| {
        let moments = state.first.par_chunks_mut(CHUNK).zip(state.second.par_chunks_mut(CHUNK));
        let chunks = state.weights.par_chunks_mut(CHUNK).zip(state.gradients.par_chunks(CHUNK)).zip(moments);
        chunks.enumerate().for_each(|(task, ((weights, gradients), (first, second)))| {
            simd.dispatch(
                #[inline(always)]
                || {
                    let decayed = step.decayed.saturating_sub(task * CHUNK).min(weights.len());
                    weights[..decayed].iter_mut().for_each(|w| *w *= keep);
                    for (((w, &g), m), v) in weights.iter_mut().zip(gradients).zip(first).zip(second) {
                        let g = g * step.gradient_scale;
                        *m += (g - *m) * rest1;
                        *v = *v * beta2 + g * g * rest2;
                        *w -= rate * *m / (v.sqrt() / root + epsilon);
                    }
                },
            );
        });
    });
}

//! Row by row: embedding, RMSNorm, SwiGLU.

use super::math::{sigmoid, sum_zip, sum_zip3};
use super::threads::{ROWS, Threads};
use rayon::prelude::*;

/// Copies each id's row of the table.
pub(super) fn embed(threads: &Threads, table: &[f32], ids: &[u32], out: &mut [f32]) {
    let columns = out.len() / ids.len();
    threads.run(|_| {
        out.par_chunks_mut(columns).zip(ids).for_each(|(out, &id)| {
            out.copy_from_slice(&table[id as usize * columns..][..columns]);
        });
    });
}

/// Adds each token's gradient to its id's row. Every task owns a stretch of the table and looks through all ids for its
/// own, so that the order of addition never depends on threads.
pub(super) fn embed_backward(threads: &Threads, d_table: &mut [f32], ids: &[u32], d_out: &[f32]) {
    let columns = d_out.len() / ids.len();
    let rows = (d_table.len() / columns).div_ceil(64).max(1);
    threads.run(|simd| {
        d_table.par_chunks_mut(rows * columns).enumerate().for_each(|(task, d_table)| {
            let first = task * rows;
            let own = first..first + d_table.len() / columns;
            simd.dispatch(
                #[inline(always)]
                || {
                    for (token, &id) in ids.iter().enumerate() {
                        if own.contains(&(id as usize)) {
                            let row = &mut d_table[(id as usize - first) * columns..][..columns];
                            for (sum, &d) in row.iter_mut().zip(&d_out[token * columns..][..columns]) {
                                *sum += d;
                            }
                        }
                    }
                },
            );
        });
    });
}

/// Adds the bias to every row.
pub(super) fn add_bias(threads: &Threads, bias: &[f32], out: &mut [f32]) {
    let columns = bias.len();
    threads.run(|simd| {
        out.par_chunks_mut(ROWS * columns).for_each(|out| {
            simd.dispatch(
                #[inline(always)]
                || {
                    for out in out.chunks_exact_mut(columns) {
                        out.iter_mut().zip(bias).for_each(|(out, &bias)| *out += bias);
                    }
                },
            );
        });
    });
}

/// Adds the column sums to the bias's gradient: of each task's rows first, then of the tasks in order. `partial` is
/// scratch.
pub(super) fn add_bias_backward(
    threads: &Threads,
    d_out: &[f32],
    d_bias: &mut [f32],
    partial: &mut Vec<f32>,
) {
    let columns = d_bias.len();
    partial.clear();
    partial.resize(d_out.len().div_ceil(ROWS * columns) * columns, 0.0);
    threads.run(|simd| {
        partial.par_chunks_mut(columns).zip(d_out.par_chunks(ROWS * columns)).for_each(|(sums, d_out)| {
            simd.dispatch(
                #[inline(always)]
                || {
                    for d_out in d_out.chunks_exact(columns) {
                        sums.iter_mut().zip(d_out).for_each(|(sum, &d)| *sum += d);
                    }
                },
            );
        });
    });
    for sums in partial.chunks_exact(columns) {
        d_bias.iter_mut().zip(sums).for_each(|(d, &sum)| *d += sum);
    }
}

/// Norms every row, and leaves `1 / rms` of each.
pub(super) fn rms_norm(
    threads: &Threads,
    epsilon: f32,
    input: &[f32],
    weight: &[f32],
    inverse_rms: &mut [f32],
    out: &mut [f32],
) {
    let columns = weight.len();
    threads.run(|simd| {
        let chunks = out.par_chunks_mut(ROWS * columns).zip(input.par_chunks(ROWS * columns));
        chunks.zip(inverse_rms.par_chunks_mut(ROWS)).for_each(|((out, input), inverse_rms)| {
            simd.dispatch(
                #[inline(always)]
                || {
                    let rows =
                        out.chunks_exact_mut(columns).zip(input.chunks_exact(columns)).zip(inverse_rms);
                    for ((out, input), inverse) in rows {
                        *inverse =
                            1.0 / (sum_zip(input, input, |a, b| a * b) / columns as f32 + epsilon).sqrt();
                        scale_row(input, weight, *inverse, out);
                    }
                },
            );
        });
    });
}

#[inline(always)]
fn scale_row(input: &[f32], weight: &[f32], inverse: f32, out: &mut [f32]) {
    for ((out, &x), &w) in out.iter_mut().zip(input).zip(weight) {
        *out = x * inverse * w;
    }
}

/// Inputs of the gradient of RMSNorm.
pub(super) struct NormGradient<'a> {
    pub(super) input: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) inverse_rms: &'a [f32],
}

/// With y = x r w, r = 1 / rms(x): dx += r (w dy - x r^2 mean(w dy x)), dw += sum over rows of dy x r, if it is asked
/// for, and y takes dy's place. `partial` is scratch.
pub(super) fn rms_norm_backward(
    threads: &Threads,
    norm: &NormGradient,
    [d_out, d_input]: [&mut [f32]; 2],
    d_weight: Option<&mut [f32]>,
    partial: &mut Vec<f32>,
) {
    let columns = norm.weight.len();
    let chunks = norm.inverse_rms.len().div_ceil(ROWS);
    let weighed = d_weight.is_some();
    partial.clear();
    partial.resize(chunks * columns, 0.0);
    threads.run(|simd| {
        let inputs = norm.input.par_chunks(ROWS * columns).zip(d_out.par_chunks_mut(ROWS * columns));
        let outputs = d_input.par_chunks_mut(ROWS * columns).zip(partial.par_chunks_mut(columns));
        inputs.zip(norm.inverse_rms.par_chunks(ROWS)).zip(outputs).for_each(
            |(((input, d_out), inverse_rms), (d_input, partial))| {
                simd.dispatch(
                    #[inline(always)]
                    || {
                        for (row, &r) in inverse_rms.iter().enumerate() {
                            let at = row * columns..(row + 1) * columns;
                            let (x, dy) = (&input[at.clone()], &mut d_out[at.clone()]);
                            let dx = &mut d_input[at];
                            if weighed {
                                for ((sum, &x), &dy) in partial.iter_mut().zip(x).zip(&*dy) {
                                    *sum += dy * x * r;
                                }
                            }
                            let dot = sum_zip3(x, dy, norm.weight, |x, dy, w| x * dy * w);
                            let mean = dot / columns as f32 * r * r;
                            for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(&*dy).zip(norm.weight) {
                                *dx += r * (w * dy - x * mean);
                            }
                            scale_row(x, norm.weight, r, dy);
                        }
                    },
                );
            },
        );
    });
    let Some(d_weight) = d_weight else { return };
    for partial in partial.chunks_exact(columns) {
        for (sum, &value) in d_weight.iter_mut().zip(partial) {
            *sum += value;
        }
    }
}

/// silu(gate) x up, row by row.
pub(super) fn swiglu(threads: &Threads, width: usize, fused: &[f32], out: &mut [f32]) {
    threads.run(|simd| {
        out.par_chunks_mut(ROWS * width).zip(fused.par_chunks(ROWS * 2 * width)).for_each(|(out, fused)| {
            simd.dispatch(
                #[inline(always)]
                || {
                    for (out, fused) in out.chunks_exact_mut(width).zip(fused.chunks_exact(2 * width)) {
                        let (gate, up) = fused.split_at(width);
                        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                            *out = gate * sigmoid(gate) * up;
                        }
                    }
                },
            );
        });
    });
}

/// Replaces gate and up by their gradients, with s = sigmoid(g): dg = dy u s (1 + g (1 - s)), du = dy g s; and dy by the
/// output.
pub(super) fn swiglu_backward(threads: &Threads, width: usize, fused: &mut [f32], d_out: &mut [f32]) {
    threads.run(|simd| {
        fused.par_chunks_mut(ROWS * 2 * width).zip(d_out.par_chunks_mut(ROWS * width)).for_each(
            |(fused, d_out)| {
                simd.dispatch(
                    #[inline(always)]
                    || {
                        let rows = fused.chunks_exact_mut(2 * width).zip(d_out.chunks_exact_mut(width));
                        for (fused, d_out) in rows {
                            let (gate, up) = fused.split_at_mut(width);
                            for ((gate, up), d_out) in gate.iter_mut().zip(up).zip(d_out) {
                                let s = sigmoid(*gate);
                                let silu = *gate * s;
                                let d = std::mem::replace(d_out, silu * *up);
                                let d_gate = d * *up * (s + silu * (1.0 - s));
                                *up = d * silu;
                                *gate = d_gate;
                            }
                        }
                    },
                );
            },
        );
    });
}

//! Element-wise operations on whole tensors as plain loops.
//!
//! candle runs its own on a pool of spinning threads, which compete with the threads of the windows.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result as Computed, Shape, Tensor, bail};
use thimble_runtime::format::LayerOptions;

struct Loop<F> {
    name: &'static str,
    run: F,
}

fn numbers<'s>(name: &str, storage: &'s CpuStorage, layout: &Layout) -> Computed<&'s [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("{name} needs contiguous numbers"),
    }
}

fn done(out: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (CpuStorage::F32(out), shape.clone())
}

impl<F: Fn(&mut [f32])> CustomOp1 for Loop<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Computed<(CpuStorage, Shape)> {
        let mut out = numbers(self.name, storage, layout)?.to_vec();
        (self.run)(&mut out);
        Ok(done(out, layout.shape()))
    }
}

impl<F: Fn(&mut [f32], &[f32])> CustomOp2 for Loop<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Computed<(CpuStorage, Shape)> {
        let mut out = numbers(self.name, left, left_layout)?.to_vec();
        (self.run)(&mut out, numbers(self.name, right, right_layout)?);
        Ok(done(out, left_layout.shape()))
    }
}

/// The sum.
pub(crate) fn add(left: &Tensor, right: &Tensor) -> Computed<Tensor> {
    let run = |out: &mut [f32], right: &[f32]| out.iter_mut().zip(right).for_each(|(o, r)| *o += r);
    left.apply_op2_no_bwd(right, &Loop { name: "add", run })
}

/// The difference.
pub(crate) fn subtract(left: &Tensor, right: &Tensor) -> Computed<Tensor> {
    let run = |out: &mut [f32], right: &[f32]| out.iter_mut().zip(right).for_each(|(o, r)| *o -= r);
    left.apply_op2_no_bwd(right, &Loop { name: "subtract", run })
}

/// silu(gate) x up.
pub(crate) fn gated(gate: &Tensor, up: &Tensor) -> Computed<Tensor> {
    let run = |out: &mut [f32], up: &[f32]| {
        out.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up / (1.0 + (-*gate).exp()));
    };
    gate.apply_op2_no_bwd(up, &Loop { name: "gated", run })
}

/// The sum of every row and a bias.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Computed<Tensor> {
    let run = |out: &mut [f32], bias: &[f32]| {
        for row in out.chunks_exact_mut(bias.len().max(1)) {
            row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
        }
    };
    x.apply_op2_no_bwd(bias, &Loop { name: "add bias", run })
}

/// RMS norm of every row, or of every part of a row that is as long as the weight, times the weight.
pub(crate) fn norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Computed<Tensor> {
    let run = |out: &mut [f32], weight: &[f32]| {
        for row in out.chunks_exact_mut(weight.len().max(1)) {
            let square: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
            let inverse = (square / row.len() as f64 + f64::from(epsilon)).sqrt().recip() as f32;
            row.iter_mut().zip(weight).for_each(|(v, w)| *v *= inverse * w);
        }
    };
    x.apply_op2_no_bwd(weight, &Loop { name: "norm", run })
}

/// Rotates each pair (i, i + dim/2) of each head by its position; `cos` and `sin` have dim/2 numbers for each position.
pub(crate) fn rotate(x: &Tensor, head_dim: usize, cos: &[f32], sin: &[f32]) -> Computed<Tensor> {
    let (columns, half) = (x.dim(1)?, head_dim / 2);
    let run = |out: &mut [f32]| {
        let tables = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in out.chunks_exact_mut(columns).zip(tables) {
            for head in row.chunks_exact_mut(head_dim) {
                let (first, second) = head.split_at_mut(half);
                for i in 0..half {
                    let (a, b) = (first[i], second[i]);
                    (first[i], second[i]) = (a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]);
                }
            }
        }
    };
    x.apply_op1_no_bwd(&Loop { name: "rotate", run })
}

/// Causal softmax of scaled scores of the keys that each query attends to. Shape: any whose last two dimensions are
/// multiples of queries x keys, with as many queries as keys.
pub(crate) fn softmax(scores: &Tensor, tokens: usize, layer: &LayerOptions, scale: f32) -> Computed<Tensor> {
    let run = |out: &mut [f32]| {
        for (at, row) in out.chunks_exact_mut(tokens).enumerate() {
            let (seen, hidden) = row.split_at_mut(at % tokens + 1);
            hidden.fill(0.0);
            let before = layer.first_attended(at % tokens);
            let (hidden, seen) = seen.split_at_mut(before);
            hidden.fill(0.0);
            let most = seen.iter().fold(f32::NEG_INFINITY, |most, &v| most.max(v));
            seen.iter_mut().for_each(|v| *v = ((*v - most) * scale).exp());
            let inverse = seen.iter().map(|&v| f64::from(v)).sum::<f64>().recip() as f32;
            seen.iter_mut().for_each(|v| *v *= inverse);
        }
    };
    scores.apply_op1_no_bwd(&Loop { name: "softmax", run })
}

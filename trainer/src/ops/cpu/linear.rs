//! Linear layers.

use super::gemm::{MatrixView, WriteMode, matmul};
use super::threads::Threads;
use rayon::prelude::*;

/// Tokens of one task: enough to make packing the weight cheap.
const ROWS: usize = 512;

/// `outputs x inputs`, row-major.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) values: &'a [f32],
    pub(super) inputs: usize,
}

impl<'a> Weights<'a> {
    fn outputs(self) -> usize {
        self.values.len() / self.inputs
    }

    fn matrix(self) -> MatrixView<'a> {
        MatrixView::new(self.values, self.inputs)
    }
}

/// `output = input x weights^T`, plus `residual` where there is one.
pub(super) fn forward(
    threads: &Threads,
    weights: Weights,
    input: &[f32],
    residual: Option<&[f32]>,
    output: &mut [f32],
) {
    let (width, matrix) = (weights.outputs(), weights.matrix().transpose());
    let input = MatrixView::new(input, weights.inputs);
    threads.run(|_| {
        output.par_chunks_mut(ROWS * width).enumerate().for_each(|(task, output)| {
            let first = task * ROWS;
            let mode = match residual {
                None => WriteMode::Replace,
                Some(residual) => {
                    output.copy_from_slice(&residual[first * width..][..output.len()]);
                    WriteMode::Add
                }
            };
            matmul(output, width, mode, 1.0, input.rows(first, first + output.len() / width), matrix);
        });
    });
}

/// Writes `d_input = d_output x weights`.
pub(super) fn input_gradient(threads: &Threads, weights: Weights, d_output: &[f32], d_input: &mut [f32]) {
    let inputs = weights.inputs;
    let d_output = MatrixView::new(d_output, weights.outputs());
    threads.run(|_| {
        d_input.par_chunks_mut(ROWS * inputs).enumerate().for_each(|(task, d_input)| {
            let first = task * ROWS;
            let part = d_output.rows(first, first + d_input.len() / inputs);
            matmul(d_input, inputs, WriteMode::Replace, 1.0, part, weights.matrix());
        });
    });
}

/// Adds `d_output^T x input` to `d_weights`, `outputs x inputs`.
pub(super) fn weight_gradient(
    threads: &Threads,
    inputs: usize,
    [input, d_output]: [&[f32]; 2],
    d_weights: &mut [f32],
) {
    let outputs = d_weights.len() / inputs;
    let (input, d_output) = (MatrixView::new(input, inputs), MatrixView::new(d_output, outputs));
    // Rows of the gradient per task: up to sixteen tasks, each large enough to make packing the input cheap.
    let rows = outputs.div_ceil(16).next_multiple_of(16).max(256);
    threads.run(|_| {
        d_weights.par_chunks_mut(rows * inputs).enumerate().for_each(|(task, d_weights)| {
            let first = task * rows;
            let part = d_output.transpose().rows(first, first + d_weights.len() / inputs);
            matmul(d_weights, inputs, WriteMode::Add, 1.0, part, input);
        });
    });
}

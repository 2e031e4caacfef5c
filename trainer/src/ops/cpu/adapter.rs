//! Low-rank adapters.

use super::super::Adapter;
use super::gemm::{MatrixView, WriteMode, matmul};
use super::threads::Threads;
use rayon::prelude::*;

/// Tokens of one task.
const ROWS: usize = 512;
/// Rows of B's gradient that one task adds to.
const OUTPUTS: usize = 512;

/// A of all parts, then their B one behind the other, out of the flat buffer.
fn factors<'a>(adapter: &Adapter, flat: &'a [f32]) -> (&'a [f32], Vec<&'a [f32]>) {
    (&flat[adapter.a.range()], adapter.parts().map(|(part, _)| &flat[part.b.range()]).collect())
}

/// Writes `hidden = input x A^T`, and adds each part's `scale x hidden x B^T` to its columns of `output`.
pub(super) fn forward(
    threads: &Threads,
    (adapter, weights): (&Adapter, &[f32]),
    input: &[f32],
    hidden: &mut [f32],
    output: &mut [f32],
) {
    let (a, b) = factors(adapter, weights);
    let (inputs, inner) = (adapter.a.columns, adapter.a.rows);
    let width = output.len() / (input.len() / inputs);
    threads.run(|_| {
        let outputs = output.par_chunks_mut(ROWS * width).zip(hidden.par_chunks_mut(ROWS * inner));
        outputs.zip(input.par_chunks(ROWS * inputs)).for_each(|((output, hidden), input)| {
            let down = MatrixView::new(a, inputs).transpose();
            matmul(hidden, inner, WriteMode::Replace, 1.0, MatrixView::new(input, inputs), down);
            let rows = hidden.len() / inner;
            for ((part, first), b) in adapter.parts().zip(&b) {
                let rank = part.b.columns;
                let hidden = MatrixView::strided(&hidden[first..], rows, rank, inner);
                let up = MatrixView::new(b, rank).transpose();
                matmul(&mut output[part.first_output..], width, WriteMode::Add, adapter.scale, hidden, up);
            }
        });
    });
}

/// Writes `d_hidden` and adds to `d_input`.
pub(super) fn input_gradient(
    threads: &Threads,
    (adapter, weights): (&Adapter, &[f32]),
    d_output: &[f32],
    d_hidden: &mut [f32],
    d_input: &mut [f32],
) {
    let (a, b) = factors(adapter, weights);
    let (inputs, inner) = (adapter.a.columns, adapter.a.rows);
    let width = d_output.len() / (d_input.len() / inputs);
    threads.run(|_| {
        let outputs = d_input.par_chunks_mut(ROWS * inputs).zip(d_hidden.par_chunks_mut(ROWS * inner));
        outputs.zip(d_output.par_chunks(ROWS * width)).for_each(|((d_input, d_hidden), d_output)| {
            let rows = d_hidden.len() / inner;
            for ((part, first), b) in adapter.parts().zip(&b) {
                let d_output = MatrixView::strided(&d_output[part.first_output..], rows, part.b.rows, width);
                let up = MatrixView::new(b, part.b.columns);
                let d_hidden = &mut d_hidden[first..];
                matmul(d_hidden, inner, WriteMode::Replace, adapter.scale, d_output, up);
            }
            let d_hidden = MatrixView::new(d_hidden, inner);
            matmul(d_input, inputs, WriteMode::Add, 1.0, d_hidden, MatrixView::new(a, inputs));
        });
    });
}

/// Activations that the gradients of A and B are made of.
pub(super) struct WeightGradient<'a> {
    pub(super) input: &'a [f32],
    pub(super) hidden: &'a [f32],
    pub(super) d_output: &'a [f32],
    pub(super) d_hidden: &'a [f32],
}

/// Adds to the gradients of A and B.
pub(super) fn weight_gradient(
    threads: &Threads,
    adapter: &Adapter,
    gradients: &mut [f32],
    pass: WeightGradient,
) {
    let (inputs, inner) = (adapter.a.columns, adapter.a.rows);
    let WeightGradient { input, hidden, d_output, d_hidden } = pass;
    let tokens = input.len() / inputs;
    let width = d_output.len() / tokens;
    let d_hidden = MatrixView::new(d_hidden, inner).transpose();
    let (d_a, mut rest) = gradients[adapter.a.start..].split_at_mut(adapter.a.rows * inputs);
    let mut d_b = Vec::new();
    for (part, first) in adapter.parts() {
        let (of_part, behind) = rest.split_at_mut(part.b.rows * part.b.columns);
        rest = behind;
        d_b.extend(of_part.chunks_mut(OUTPUTS * part.b.columns).enumerate().map(|(task, d_b)| {
            let columns = part.first_output + task * OUTPUTS;
            (d_b, columns, first, part.b.columns)
        }));
    }
    let of_a = || matmul(d_a, inputs, WriteMode::Add, 1.0, d_hidden, MatrixView::new(input, inputs));
    let of_b = || {
        d_b.into_par_iter().for_each(|(d_b, first_output, first, rank)| {
            let d_output = MatrixView::strided(&d_output[first_output..], tokens, d_b.len() / rank, width);
            let hidden = MatrixView::strided(&hidden[first..], tokens, rank, inner);
            matmul(d_b, rank, WriteMode::Add, adapter.scale, d_output.transpose(), hidden);
        });
    };
    threads.run(|_| rayon::join(of_a, of_b));
}

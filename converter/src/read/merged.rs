//! What adapters add to the matrices of a source.

use rayon::prelude::*;
use std::ops::Range;

/// What an adapter adds to one matrix: `factor * B A`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MergedMatrix {
    /// Weight times scale.
    pub(crate) factor: f32,
    /// `[rank, columns]`.
    pub(crate) a: Vec<f32>,
    /// `[rows, rank]`.
    pub(crate) b: Vec<f32>,
    pub(crate) rank: usize,
}

/// Adds what adapters add to `rows` of a matrix of `columns` columns, whose numbers are in `numbers`.
pub(super) fn add(merged: &[MergedMatrix], rows: Range<usize>, columns: usize, numbers: &mut [f32]) {
    numbers.par_chunks_mut(columns).zip(rows).for_each(|(numbers, row)| {
        for MergedMatrix { factor, a, b, rank } in merged {
            let mut sums = vec![0.0f32; columns];
            for (a, b) in a.chunks_exact(columns).zip(&b[row * rank..][..*rank]) {
                sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a * b);
            }
            numbers.iter_mut().zip(sums).for_each(|(number, sum)| *number += factor * sum);
        }
    });
}

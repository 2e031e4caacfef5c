//! Adapters merged into the matrices that they adapt.

use crate::model::Parameters;
use crate::ops::Adapter;
use rayon::prelude::*;

/// The weights of a flat buffer without adapters, laid out as [`Parameters::new`] does: each adapted matrix W becomes
/// `W + scale x B A`, computed in f64 and rounded once.
pub fn merge(parameters: &Parameters, weights: &[f32], plain: &Parameters) -> Vec<f32> {
    let mut merged = vec![0.0; plain.len];
    for to in plain.named() {
        // Both have the tensors of one model.
        if let Some(from) = parameters.find(&to.name) {
            merged[to.range()].copy_from_slice(&weights[from.range()]);
        }
    }
    for (layer, to) in parameters.layers.iter().zip(&plain.layers) {
        let adapters = layer.adapters;
        for (adapter, matrix) in [
            (adapters.qkv, to.qkv),
            (adapters.output, to.output),
            (adapters.gate_up, to.gate_up),
            (adapters.down, to.down),
        ] {
            if let Some(adapter) = adapter {
                add(&adapter, weights, &mut merged[matrix.range()]);
            }
        }
    }
    merged
}

/// Adds `scale x B A` to the rows of each part.
fn add(adapter: &Adapter, weights: &[f32], matrix: &mut [f32]) {
    let columns = adapter.a.columns;
    for (part, first) in adapter.parts() {
        let rank = part.b.columns;
        let a = &weights[adapter.a.range()][first * columns..(first + rank) * columns];
        let b = &weights[part.b.range()];
        let rows = &mut matrix[part.first_output * columns..][..part.b.rows * columns];
        rows.par_chunks_mut(columns).zip(b.par_chunks(rank)).for_each(|(row, b)| {
            let mut sums = vec![0.0f64; columns];
            for (a, &b) in a.chunks_exact(columns).zip(b) {
                sums.iter_mut().zip(a).for_each(|(sum, &a)| *sum += f64::from(a) * f64::from(b));
            }
            for (weight, sum) in row.iter_mut().zip(sums) {
                *weight = (f64::from(*weight) + f64::from(adapter.scale) * sum) as f32;
            }
        });
    }
}

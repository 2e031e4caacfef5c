//! The tables of the rotary embedding.

use thimble_runtime::format::RopeParameters;

/// Cosines and sines, times the attention factor, `context x head_dim / 2` each.
pub(super) fn tables(rope: &RopeParameters, head_dim: usize, context: usize) -> (Vec<f32>, Vec<f32>) {
    let half = head_dim / 2;
    let mut frequencies = vec![0.0; half];
    rope.inverse_frequencies(&mut frequencies);
    let rotation = |at: usize| rope.rotation(at / half, frequencies[at % half]);
    (0..context * half).map(rotation).map(|[cosine, sine]| (cosine, sine)).unzip()
}

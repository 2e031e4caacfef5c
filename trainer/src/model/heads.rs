//! Between a layer's fused projection and the heads of its attention.

use super::activations::{Activations, LayerActivations, QkNorm};
use super::parameters::LayerParameters;
use crate::error::Result;
use crate::ops::{AttentionShape, BufferSpan, Ops, RmsNorm, WeightVector};

/// The attention of a layer.
pub(super) fn attention(spans: &Activations, weights: &LayerParameters) -> AttentionShape {
    AttentionShape { options: weights.options, ..spans.attention }
}

/// From the fused projection to the heads that attention reads: splits, norms queries and keys, rotates.
pub(super) fn split_heads(
    ops: &mut impl Ops,
    attention: AttentionShape,
    weights: &LayerParameters,
    saved: &LayerActivations,
    qkv: BufferSpan,
) -> Result<()> {
    let (Some(norm), Some([query, key])) = (saved.qk_norm, weights.qk_norm) else {
        return ops.split_heads(attention, weights.options.rope, qkv, saved.heads);
    };
    ops.split_heads(attention, false, qkv, norm.heads)?;
    let [query, key] = head_norms(norm, [query, key]);
    ops.rms_norm(query, saved.heads.query)?;
    ops.rms_norm(key, saved.heads.key)?;
    if weights.options.rope {
        ops.rotate(attention, saved.heads)?;
    }
    Ok(())
}

/// From the gradients of the heads to that of the fused projection.
pub(super) fn split_heads_backward(
    ops: &mut impl Ops,
    attention: AttentionShape,
    weights: &LayerParameters,
    (spans, saved): (&Activations, &LayerActivations),
    d_qkv: BufferSpan,
) -> Result<()> {
    let (d_heads, d_projected) = (spans.d_heads, spans.d_projected);
    let (Some(norm), Some([query, key])) = (saved.qk_norm, weights.qk_norm) else {
        return ops.split_heads_backward(attention, weights.options.rope, d_heads, d_qkv);
    };
    if weights.options.rope {
        ops.rotate_backward(attention, d_heads)?;
    }
    ops.zero(d_projected.query)?;
    ops.zero(d_projected.key)?;
    let [query, key] = head_norms(norm, [query, key]);
    ops.rms_norm_backward(query, d_heads.query, d_projected.query)?;
    ops.rms_norm_backward(key, d_heads.key, d_projected.key)?;
    ops.split_heads_backward(attention, false, d_projected, d_qkv)
}

fn head_norms(norm: QkNorm, [query, key]: [WeightVector; 2]) -> [RmsNorm; 2] {
    [
        RmsNorm { input: norm.heads.query, weight: query, inverse_rms: norm.query_rms },
        RmsNorm { input: norm.heads.key, weight: key, inverse_rms: norm.key_rms },
    ]
}

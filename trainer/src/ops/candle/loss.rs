//! Cross-entropy over a chunk of tokens, with its gradient.

use super::super::LossTerms;
use candle_core::{DType, Result, Tensor};

/// Each token's `z - logits[target]`, z the log-partition, for `logits` of `tokens x classes`, targets and their weights
/// of `tokens x 1`. With terms also the gradient of the logits, in f32: `weight x (softmax x (1 + 2 z_loss z) -
/// [target])`.
pub(super) fn cross_entropy(
    logits: Tensor,
    (targets, weights): (&Tensor, &Tensor),
    terms: Option<LossTerms>,
) -> Result<(Tensor, Option<Tensor>)> {
    let logits = logits.to_dtype(DType::F32)?;
    let wanted = logits.gather(targets, 1)?;
    let largest = logits.max_keepdim(1)?;
    let shifted = logits.broadcast_sub(&largest)?;
    // A chunk of logits is hundreds of megabytes: none is kept longer than needed.
    drop(logits);
    let exponentials = shifted.exp()?;
    drop(shifted);
    let sum = exponentials.sum_keepdim(1)?;
    let log_partition = (largest + sum.log()?)?;
    let losses = (&log_partition - wanted)?.flatten_all()?;
    let Some(LossTerms { z_loss }) = terms else { return Ok((losses, None)) };
    let factor = ((log_partition.affine(2.0 * f64::from(z_loss), 1.0)? * weights)? / sum)?;
    let gradient = exponentials.broadcast_mul(&factor)?;
    // One element a row, so that nothing is added twice at the same place.
    gradient.scatter_add_set(targets, &weights.neg()?, 1)?;
    Ok((losses, Some(gradient)))
}

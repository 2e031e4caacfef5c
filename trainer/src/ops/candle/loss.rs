//! Cross-entropy over a chunk of tokens, with its gradient.

use super::super::LossTerms;
use candle_core::{DType, Result, Tensor};

/// Each token's `z - logits[target]`, z the log-partition, for `logits` of `tokens x classes` and targets of `tokens x
/// 1`. With terms also the gradient of the logits, in f32: `scale x (softmax x (1 + 2 z_loss z) - [target])`.
pub(super) fn cross_entropy(
    logits: Tensor,
    targets: &Tensor,
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
    let Some(LossTerms { scale, z_loss }) = terms else { return Ok((losses, None)) };
    let (scale, z_loss) = (f64::from(scale), f64::from(z_loss));
    let factor = (log_partition.affine(2.0 * z_loss * scale, scale)? / sum)?;
    let gradient = exponentials.broadcast_mul(&factor)?;
    // One element a row, so that nothing is added twice at the same place.
    let minus = Tensor::full(-scale as f32, targets.shape(), targets.device())?;
    gradient.scatter_add_set(targets, &minus, 1)?;
    Ok((losses, Some(gradient)))
}

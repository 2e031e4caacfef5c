//! From logits to unnormalized probabilities, in place, and which of them are not 0.

use super::exp::{self, CHUNK, LANES};
use crate::Token;

/// The numerator of softmax with temperature, scaled to 1 for the largest logit.
#[derive(Clone, Copy)]
pub(super) struct Numerator {
    pub(super) max: f32,
    pub(super) scale: f64,
}

impl Numerator {
    /// The exponent for a logit; never decreases as the logit grows.
    #[inline]
    pub(super) fn power(self, logit: f32) -> f32 {
        // In f64: the difference of two finite f32 can overflow f32, and so can the scale of a tiny temperature.
        ((f64::from(logit) - f64::from(self.max)) * self.scale) as f32
    }

    /// The weight of a logit.
    #[inline]
    pub(super) fn weight(self, logit: f32) -> f32 {
        exp::exp(self.power(logit))
    }
}

/// Replaces `logits` by their weights; returns the sum, in f64: sixteen sums of every sixteenth weight, added in order.
///
/// At a low temperature most of the vocabulary has the weight 0, which the largest logit of a chunk tells.
pub(super) fn weigh(logits: &mut [f32], numerator: Numerator) -> f64 {
    let mut sums = [0.0_f64; LANES];
    for chunk in logits.chunks_mut(CHUNK) {
        if numerator.weight(exp::largest(chunk)) == 0.0 {
            chunk.fill(0.0);
            continue;
        }
        for logit in chunk.iter_mut() {
            *logit = numerator.weight(*logit);
        }
        let (lanes, rest) = chunk.as_chunks::<LANES>();
        for lanes in lanes {
            for (sum, &weight) in sums.iter_mut().zip(lanes) {
                *sum += f64::from(weight);
            }
        }
        for (sum, &weight) in sums.iter_mut().zip(rest) {
            *sum += f64::from(weight);
        }
    }
    sums.iter().sum()
}

/// Replaces `logits` by their weights, and those below `min_weight` by 0.
pub(super) fn weigh_above(logits: &mut [f32], numerator: Numerator, min_weight: f32) {
    // `exp` is within two parts in 10^7, but need not be monotone: a smaller logit's weight can be that much above the largest
    // one's.
    const SLACK: f32 = 1.000_001;
    for chunk in logits.chunks_mut(CHUNK) {
        if min_weight > 0.0 && numerator.weight(exp::largest(chunk)) * SLACK < min_weight {
            chunk.fill(0.0);
            continue;
        }
        for logit in chunk {
            let weight = numerator.weight(*logit);
            *logit = if weight >= min_weight { weight } else { 0.0 };
        }
    }
}

/// The tokens of a vocabulary's `weights` whose chunk has any weight, in order: what is left out adds 0 to a sum.
pub(super) fn nonzero(weights: &[f32]) -> impl Iterator<Item = (Token, f32)> + Clone {
    let chunks = weights.chunks(CHUNK).zip((0..).step_by(CHUNK));
    let some = chunks.filter(|(chunk, _)| exp::largest(chunk) > 0.0);
    some.flat_map(|(chunk, first)| (first..).map(Token).zip(chunk.iter().copied()))
}

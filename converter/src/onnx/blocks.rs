//! Blocks of `MatMulNBits` and `GatherBlockQuantized`: 32 integers of 4 or 8 bits with an f32 scale.

use crate::quantize::Quantizer;
use thimble_runtime::format::Encoding;

/// Numbers in a block.
pub(super) const LEN: usize = 32;

/// A quantized block: each number is `scale` x (code - zero point).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NBitBlock {
    pub(super) codes: [u8; LEN],
    pub(super) scale: f32,
    pub(super) zero_point: u8,
}

impl NBitBlock {
    /// Quantizes up to 32 numbers to `bits` 8 or 4; `None` if they are too large.
    ///
    /// 8 bits are symmetric: the zero point is 128. For 4 bits it is any code, and numbers with the blocks of Q4_0 are exact.
    pub(super) fn new(bits: u32, values: &[f32]) -> Option<NBitBlock> {
        let mut padded = [0.0; LEN];
        padded.iter_mut().zip(values).for_each(|(padded, &value)| *padded = value);
        let encoding = if bits == 8 { Encoding::Q8 } else { Encoding::Q4 };
        let (quantizer, weights) = (Quantizer::new(encoding)?, [1.0; LEN]);
        let shared = quantizer.row_scales(&padded, &weights);
        let scale = quantizer.group_scale(&shared, &padded, &weights)?.scale;
        let symmetric = NBitBlock::with(bits, &padded, scale, 1 << (bits - 1));
        Some(if bits == 8 { symmetric } else { symmetric.or_asymmetric(&padded) })
    }

    /// The nearest codes.
    fn with(bits: u32, values: &[f32; LEN], scale: f32, zero_point: u8) -> NBitBlock {
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let highest = ((1u32 << bits) - 1) as f32;
        // The cast cuts off the fraction of a positive number.
        let code = |value: f32| (value * inverse + f32::from(zero_point) + 0.5).clamp(0.0, highest) as u8;
        NBitBlock { codes: values.map(code), scale, zero_point }
    }

    /// This block, or a better one of 4 bits whose zero point is chosen by the range of the numbers.
    fn or_asymmetric(self, values: &[f32; LEN]) -> NBitBlock {
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(0.0, f32::max);
        let mut best = (self.error(values), self);
        if best.0 == 0.0 {
            return best.1;
        }
        for clipped in [-0.03, 0.0, 0.04, 0.08, 0.13] {
            let scale = (high - low) * (1.0 - clipped) / 15.0;
            let middle = (7.5 - (low + high) / 2.0 / scale).clamp(0.0, 15.0);
            for zero_point in [middle.floor() as u8, middle.ceil() as u8] {
                let mut block = NBitBlock::with(4, values, scale, zero_point);
                for _ in 0..2 {
                    let refined = block.least_squares_scale(values);
                    block = NBitBlock::with(4, values, refined, zero_point);
                    let error = block.error(values);
                    if error < best.0 {
                        best = (error, block.clone());
                    }
                }
            }
        }
        best.1
    }

    /// The scale that minimizes the squared error for these codes.
    fn least_squares_scale(&self, values: &[f32; LEN]) -> f32 {
        let (mut product, mut square) = (0.0, 0.0);
        for (code, value) in self.codes.iter().zip(values) {
            let level = f32::from(*code) - f32::from(self.zero_point);
            product += level * value;
            square += level * level;
        }
        if square > 0.0 { product / square } else { self.scale }
    }

    /// The sum of squared errors.
    pub(super) fn error(&self, values: &[f32]) -> f32 {
        let value = |code: u8| (f32::from(code) - f32::from(self.zero_point)) * self.scale;
        self.codes.iter().zip(values).map(|(&code, v)| (v - value(code)).powi(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{LEN, NBitBlock};

    #[test]
    fn numbers_of_the_grid_are_exact() {
        for bits in [4, 8] {
            let (low, high) = if bits == 4 { (-8, 7) } else { (-127, 127) };
            let values: [f32; LEN] = std::array::from_fn(|i| {
                let level = low + (i as i32 * 11) % (high - low + 1);
                [low, high].get(i).copied().unwrap_or(level) as f32 * 0.25
            });
            let block = NBitBlock::new(bits, &values).unwrap();
            assert_eq!((block.error(&values), block.scale.abs()), (0.0, 0.25));
            assert_eq!(block.zero_point, 1 << (bits - 1));
        }
        let zeros = NBitBlock::new(4, &[0.0; 7]).unwrap();
        assert_eq!((zeros.codes, zeros.scale), ([8; LEN], 0.0));
    }

    #[test]
    fn one_sided_blocks_move_the_zero_point() {
        let values: [f32; LEN] = std::array::from_fn(|i| (i * 7 % 32) as f32 + 1.0);
        let block = NBitBlock::new(4, &values).unwrap();
        assert!(block.zero_point < 2, "{block:?}");
        let energy: f32 = values.iter().map(|v| v * v).sum();
        assert!(block.error(&values) < 3e-3 * energy);
        assert_eq!(NBitBlock::new(4, &[f32::MAX; 4]), None);
    }
}

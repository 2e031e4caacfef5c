//! Initial weights.

use super::Parameters;
use crate::recipe::ModelShape;

/// Initial weights: normal with `init_std` for matrices, divided by sqrt(2 x layers) for those that write into the residual
/// stream (Radford et al. 2019, section 2.3), ones for norms. Each tensor's numbers depend on the seed and its place alone.
pub fn weights(shape: &ModelShape, parameters: &Parameters, seed: u64) -> Vec<f32> {
    let mut weights = vec![1.0; parameters.len];
    for (index, named) in parameters.named().iter().enumerate() {
        if named.shape.len() < 2 {
            continue;
        }
        let residual = named.name.contains("o_proj") || named.name.contains("down_proj");
        let shrink = if residual { (2.0 * shape.layers as f64).sqrt() } else { 1.0 };
        let mut random = SplitMix::new(seed, index as u64);
        for pair in weights[named.range()].chunks_mut(2) {
            let (a, b) = random.normal_pair();
            for (weight, value) in pair.iter_mut().zip([a, b]) {
                *weight = (value * shape.init_std / shrink) as f32;
            }
        }
    }
    weights
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same everywhere for ever.
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64, stream: u64) -> SplitMix {
        let mut mixed = SplitMix(seed);
        let seed = mixed.next();
        SplitMix(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Two independent standard normal numbers (Box and Muller 1958).
    fn normal_pair(&mut self) -> (f64, f64) {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        (radius * angle.cos(), radius * angle.sin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_their_moments() {
        let mut random = SplitMix::new(7, 3);
        let numbers: Vec<f64> = (0..50_000).flat_map(|_| <[f64; 2]>::from(random.normal_pair())).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let moment = |p| numbers.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.1);
    }
}

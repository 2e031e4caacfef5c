//! SplitMix64 (Steele, Lea and Flood 2014): random numbers that are the same on every platform and in every version.

/// What the state grows by: 2^64 over the golden ratio.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function: a bijection that spreads every bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bits as a number from 0 to below 1, of 53 bits.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The generator.
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// One of many streams of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> SplitMix {
        SplitMix(mix(seed.wrapping_add(GOLDEN)) ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        unit(self.next())
    }

    /// Two independent standard normal numbers (Box and Muller 1958).
    pub(crate) fn normal_pair(&mut self) -> (f64, f64) {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        (radius * angle.cos(), radius * angle.sin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 seeded with 0 starts so in its authors' reference code.
    #[test]
    fn the_numbers_are_the_published_ones() {
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(GOLDEN.wrapping_mul(2)), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn normal_numbers_have_their_moments() {
        let mut random = SplitMix::new(7, 3);
        let numbers: Vec<f64> = (0..50_000).flat_map(|_| <[f64; 2]>::from(random.normal_pair())).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let moment = |p| numbers.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.1);
    }
}

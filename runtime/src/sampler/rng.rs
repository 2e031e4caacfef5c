//! PCG32, the random numbers of the sampler.

/// PCG-XSH-RR 64/32 of Melissa O'Neill ("PCG: A Family of Simple Fast Space-Efficient Statistically Good
/// Algorithms for Random Number Generation", HMC-CS-2014-0905), as in her minimal C code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcg32 {
    state: u64,
    increment: u64,
}

impl Pcg32 {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    /// The stream of the reference's demonstration program.
    const STREAM: u64 = 54;

    /// The generator with this seed on the default stream.
    pub fn new(seed: u64) -> Pcg32 {
        Pcg32::with_stream(seed, Self::STREAM)
    }

    /// The generator with this seed on one of 2^63 streams: `pcg32_srandom_r` of the reference.
    pub fn with_stream(seed: u64, stream: u64) -> Pcg32 {
        let mut rng = Pcg32 { state: 0, increment: (stream << 1) | 1 };
        rng.next_u32();
        rng.state = rng.state.wrapping_add(seed);
        rng.next_u32();
        rng
    }

    /// State and increment, as the reference's `pcg32_random_t` has them.
    pub fn state(&self) -> [u64; 2] {
        [self.state, self.increment]
    }

    /// The next 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
        let xorshifted = (((old >> 18) ^ old) >> 27) as u32;
        xorshifted.rotate_right((old >> 59) as u32)
    }

    /// A uniform number in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        ((high << 26) | low) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Pcg32;

    #[test]
    fn gives_the_reference_output_of_pcg32_demo() {
        let mut rng = Pcg32::with_stream(42, 54);
        let found = [(); 6].map(|()| rng.next_u32());
        assert_eq!(found, [0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e]);
    }

    #[test]
    fn unit_stays_below_one() {
        let mut rng = Pcg32::new(0);
        assert!((0..1000).map(|_| rng.unit()).all(|u| (0.0..1.0).contains(&u)));
    }
}

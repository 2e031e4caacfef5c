//! The Mersenne Twister MT19937, seeded and drawn from as numpy's `RandomState` does: the parameters of MinHash come
//! from it, and signatures are comparable only where they are the same.
//!
//! Source: Matsumoto and Nishimura, Mersenne Twister, 1998; Knuth's multiplier for the seed.

const SIZE: usize = 624;
const SHIFT: usize = 397;

pub(super) struct MersenneTwister {
    state: [u32; SIZE],
    next: usize,
}

impl MersenneTwister {
    pub(super) fn new(seed: u32) -> MersenneTwister {
        let mut state = [seed; SIZE];
        for at in 1..SIZE {
            let before = state[at - 1];
            state[at] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at as u32);
        }
        MersenneTwister { state, next: SIZE }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == SIZE {
            for at in 0..SIZE {
                let bits = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % SIZE] & 0x7FFF_FFFF);
                let twist = if bits & 1 == 0 { 0 } else { 0x9908_B0DF };
                self.state[at] = self.state[(at + SHIFT) % SIZE] ^ (bits >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    /// A number from 0 to `most`, which is at least 2^32: draws are masked, and those above are drawn again.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        let mask = u64::MAX >> most.leading_zeros();
        loop {
            let high = u64::from(self.next_u32()) << 32;
            let drawn = (high | u64::from(self.next_u32())) & mask;
            if drawn <= most {
                return drawn;
            }
        }
    }
}

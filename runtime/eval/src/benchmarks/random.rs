//! The part of CPython's `random.Random` that the harness uses.

/// The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded and read as CPython does it.
#[derive(Clone, Debug)]
pub(crate) struct PythonRandom {
    state: [u32; N],
    next: usize,
}

const N: usize = 624;
const M: usize = 397;

impl PythonRandom {
    /// `random.Random(seed)` for a seed of up to 32 bits.
    pub(crate) fn new(seed: u32) -> PythonRandom {
        let mut state = [0; N];
        state[0] = 19_650_218u32;
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        // init_by_array of the one word that the seed is.
        let mut i = 1;
        for _ in 0..N {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(seed);
            i = Self::following(i, &mut state);
        }
        for _ in 0..N - 1 {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i = Self::following(i, &mut state);
        }
        state[0] = 0x8000_0000;
        PythonRandom { state, next: N }
    }

    fn following(i: usize, state: &mut [u32; N]) -> usize {
        if i + 1 < N {
            return i + 1;
        }
        state[0] = state[N - 1];
        1
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            for k in 0..N {
                let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `_randbelow(n)`: as many bits as `n` has, until they are below it. `n` is at least 1.
    fn below(&mut self, n: u32) -> u32 {
        let bits = u32::BITS - n.leading_zeros();
        loop {
            let drawn = self.word() >> (u32::BITS - bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// The indices that `sample(range(n), K)` draws, for K of at most 5; `None` where `n` is less than K.
    pub(crate) fn sample<const K: usize>(&mut self, n: u32) -> Option<[u32; K]> {
        const { assert!(K <= 5, "more are drawn from a set of another size") };
        if (n as usize) < K {
            return None;
        }
        let mut drawn = [0; K];
        if n <= 21 {
            let mut pool: Vec<u32> = (0..n).collect();
            for slot in &mut drawn {
                *slot = pool.swap_remove(self.below(pool.len() as u32) as usize);
            }
            return Some(drawn);
        }
        for i in 0..K {
            drawn[i] = loop {
                let index = self.below(n);
                if !drawn[..i].contains(&index) {
                    break index;
                }
            };
        }
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::PythonRandom;

    // random.Random(1234): [r.getrandbits(32) for _ in range(4)], then the 1,000th word.
    #[test]
    fn words_are_cpythons() {
        let mut random = PythonRandom::new(1234);
        assert_eq!([(); 4].map(|()| random.word()), WORDS);
        let mut random = PythonRandom::new(1234);
        assert_eq!((0..1000).map(|_| random.word()).last(), Some(THOUSANDTH));
    }

    // random.Random(1234): sample(range(7473), 5) three times; then 2,000 times, the last; sample(range(8), 5) twice.
    #[test]
    fn samples_are_cpythons() {
        let mut random = PythonRandom::new(1234);
        assert_eq!([(); 3].map(|()| random.sample::<5>(7473).unwrap()), LARGE);
        let mut random = PythonRandom::new(1234);
        assert_eq!((0..2000).filter_map(|_| random.sample::<5>(7473)).last(), Some(LAST));
        let mut random = PythonRandom::new(1234);
        assert_eq!([(); 2].map(|()| random.sample::<5>(8).unwrap()), SMALL);
        assert_eq!(random.sample::<5>(4), None);
    }

    const WORDS: [u32; 4] = [4_150_886_329, 3_342_196_574, 1_892_932_127, 501_869_158];
    const THOUSANDTH: u32 = 3_677_914_080;
    const LARGE: [[u32; 5]; 3] =
        [[6374, 3610, 957, 61, 742], [7462, 6610, 4769, 286, 5501], [5677, 687, 806, 6279, 2905]];
    const LAST: [u32; 5] = [116, 1608, 1811, 4469, 6795];
    const SMALL: [[u32; 5]; 2] = [[7, 0, 6, 5, 4], [1, 0, 2, 7, 6]];
}

//! A pseudo-random order that stays the same on every platform and in every version: SplitMix64 as a counter-based hash
//! and as the source of a Fisher-Yates shuffle.

use crate::random::{GOLDEN, mix};
use xxhash_rust::xxh3::xxh3_64;

/// A hash of numbers in order.
pub(in crate::data) fn hash(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |state, number| mix(state.wrapping_add(GOLDEN) ^ mix(number.wrapping_add(GOLDEN))))
}

/// A hash of a name.
pub(super) fn hash_name(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Fills `order` with a permutation of `0..count` that `key` alone decides.
pub(in crate::data) fn shuffle(order: &mut Vec<u32>, count: u32, key: u64) {
    order.clear();
    order.extend(0..count);
    let mut state = key;
    for last in (1..order.len()).rev() {
        state = state.wrapping_add(GOLDEN);
        // Lemire's multiplication; its bias is below 2^-32 for 2^32 documents.
        let other = ((u128::from(mix(state)) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: a changed order would silently change what a resumed run trains on.
    #[test]
    fn the_order_is_the_one_of_every_former_version() {
        // Computed apart, in Python.
        let mut order = Vec::new();
        shuffle(&mut order, 10, 7);
        assert_eq!(order, [9, 5, 8, 6, 1, 2, 4, 7, 0, 3]);
        assert_eq!(hash(&[1, 2, 3]), 0x003f_53a1_fe78_4bbf);
        assert_eq!(hash_name("train"), 0xf77b_5bab_e973_a588);
    }

    #[test]
    fn every_place_is_equally_likely() {
        let (mut order, mut counts) = (Vec::new(), [[0u32; 5]; 5]);
        for key in 0..20_000 {
            shuffle(&mut order, 5, hash(&[key]));
            order.iter().enumerate().for_each(|(place, item)| counts[place][*item as usize] += 1);
        }
        // 4,000 expected, standard deviation 57.
        assert!(counts.iter().flatten().all(|count| count.abs_diff(4000) < 300), "{counts:?}");
    }
}

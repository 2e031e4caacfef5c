//! A map from 32-bit keys to 32-bit values that a hostile file cannot slow down: sorted, with an index by leading bits.

use std::ops::Range;

/// An odd factor, which permutes the keys so that their leading bits are even: 2^32 divided by the golden ratio.
const FACTOR: u32 = 0x9E37_79B1;

/// Keys with a value each; a key can be there more than once.
#[derive(Clone, Debug, Default)]
pub(super) struct SortedMap {
    shift: u32,
    /// Where the keys with the same leading bits begin, and behind the last one the number of keys.
    starts: Vec<u32>,
    keys: Vec<u32>,
    values: Vec<u32>,
}

impl SortedMap {
    /// The map of `pairs` (fewer than 2^32), whose values stay in their order where keys are equal.
    pub(super) fn new(mut pairs: Vec<(u32, u32)>) -> SortedMap {
        pairs.iter_mut().for_each(|(key, _)| *key = key.wrapping_mul(FACTOR));
        pairs.sort_by_key(|&(key, _)| key);
        let bits = pairs.len().next_power_of_two().trailing_zeros().clamp(1, 30);
        let shift = 32 - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for &(key, _) in &pairs {
            starts[(key >> shift) as usize + 1] += 1;
        }
        for slot in 1..starts.len() {
            starts[slot] += starts[slot - 1];
        }
        let (keys, values) = pairs.into_iter().unzip();
        SortedMap { shift, starts, keys, values }
    }

    /// The values of `key`.
    pub(super) fn get(&self, key: u32) -> &[u32] {
        let key = key.wrapping_mul(FACTOR);
        let slot = (key >> self.shift) as usize;
        let Some(&[start, end]) = self.starts.get(slot..slot + 2) else { return &[] };
        let range = start as usize..end as usize;
        let keys = &self.keys[range.clone()];
        let Range { start: first, end: last } = match keys.len() {
            // Most slots hold one key or two: cheaper than two binary searches.
            0..=4 => {
                let first = keys.iter().position(|&other| other == key).unwrap_or(keys.len());
                let same = keys[first..].iter().take_while(|&&other| other == key).count();
                first..first + same
            }
            _ => keys.partition_point(|&other| other < key)..keys.partition_point(|&other| other <= key),
        };
        &self.values[range.start + first..range.start + last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_in_its_order() {
        assert!(SortedMap::default().get(3).is_empty());
        assert!(SortedMap::new(Vec::new()).get(0).is_empty());
        let pairs: Vec<(u32, u32)> = (0..5000).map(|i| (i * i % 1777, i)).collect();
        let map = SortedMap::new(pairs.clone());
        for key in 0..1800 {
            let expected: Vec<u32> = pairs.iter().filter(|pair| pair.0 == key).map(|pair| pair.1).collect();
            assert_eq!(map.get(key), expected, "{key}");
        }
        assert_eq!(SortedMap::new(vec![(u32::MAX, 1)]).get(u32::MAX), [1]);
    }
}

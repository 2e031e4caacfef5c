//! MinHash signatures (Broder, On the resemblance and containment of documents, 1997), equal to datatrove's.

use super::mersenne_twister::MersenneTwister;
use crate::error::{CurateError, Result};
use crate::text::{WordList, normalize};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;
use xxhash_rust::xxh64::xxh64;

/// 2^61 - 1: hashes are below it.
const PRIME: u64 = (1 << 61) - 1;
/// The seed of datatrove's parameters.
const SEED: u32 = 1;
/// Most hashes of a signature.
const MOST_HASHES: usize = 1 << 14;

/// The size of shingles and of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinHashSettings {
    /// Words of a shingle.
    pub ngram: usize,
    /// Buckets; two documents are duplicates if one bucket of theirs is equal.
    pub buckets: usize,
    /// Hashes of a bucket.
    pub rows: usize,
}

impl MinHashSettings {
    /// FineWeb's: a pair of Jaccard similarity 0.8 is found with a probability of 92%.
    pub const FINEWEB: MinHashSettings = MinHashSettings { ngram: 5, buckets: 14, rows: 8 };
    /// FineMath's: only close copies are found (11% at 0.8, 60% at 0.95).
    pub const FINEMATH: MinHashSettings = MinHashSettings { ngram: 5, buckets: 1, rows: 10 };

    /// The chance that a pair of this Jaccard similarity is found: 1 - (1 - s^rows)^buckets.
    pub fn probability(&self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powi(self.rows as i32)).powi(self.buckets as i32)
    }
}

/// Makes signatures.
#[derive(Clone, Debug)]
pub struct MinHash {
    settings: MinHashSettings,
    /// Factor and summand of each hash.
    parameters: Vec<(u64, u64)>,
}

impl MinHash {
    /// Draws the parameters.
    ///
    /// # Errors
    /// A size of 0, and more than 16,384 hashes.
    pub fn new(settings: MinHashSettings) -> Result<MinHash> {
        let hashes = settings.buckets.saturating_mul(settings.rows);
        if settings.ngram == 0 || hashes == 0 || hashes > MOST_HASHES {
            return Err(CurateError::Usage(format!(
                "expected n-grams of at least 1 word and 1 to {MOST_HASHES} hashes, found n-grams of {} and {} buckets of \
                 {} hashes",
                settings.ngram, settings.buckets, settings.rows
            )));
        }
        let mut random = MersenneTwister::new(SEED);
        let factors: Vec<u64> = (0..hashes).map(|_| 1 + random.up_to(PRIME - 2)).collect();
        let parameters = factors.into_iter().map(|factor| (factor, random.up_to(PRIME - 1))).collect();
        Ok(MinHash { settings, parameters })
    }

    /// The sizes.
    pub fn settings(&self) -> MinHashSettings {
        self.settings
    }

    /// The hashes of a text, bucket after bucket: the least of `((shingle a + b) mod 2^64) mod (2^61 - 1)` over all
    /// shingles, which are the XXH64 of its n-grams. None where the text has fewer words than a shingle.
    pub fn signature(&self, text: &str) -> Option<Vec<u64>> {
        let words = WordList::of_normalized(&normalize(text));
        let mut shingles: Vec<u64> =
            words.ngrams(self.settings.ngram).map(|ngram| xxh64(ngram.as_bytes(), 0)).collect();
        drop(words);
        // Repeated n-grams, as in boilerplate, change no minimum.
        shingles.sort_unstable();
        shingles.dedup();
        if shingles.is_empty() {
            return None;
        }
        let least = |&(factor, summand): &(u64, u64)| {
            let hash = |&shingle: &u64| modulo(shingle.wrapping_mul(factor).wrapping_add(summand));
            shingles.iter().map(hash).fold(u64::MAX, u64::min)
        };
        Some(self.parameters.iter().map(least).collect())
    }

    /// A key for each bucket of a signature: equal keys are equal buckets, but for collisions of 128 bits.
    pub fn keys<'s>(&self, signature: &'s [u64]) -> impl Iterator<Item = u128> + use<'s> {
        signature.chunks(self.settings.rows).enumerate().map(|(bucket, hashes)| {
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            xxh3_128_with_seed(&bytes, bucket as u64)
        })
    }
}

/// `value` mod 2^61 - 1.
fn modulo(value: u64) -> u64 {
    let folded = (value & PRIME) + (value >> 61);
    if folded >= PRIME { folded - PRIME } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modulus_is_right_at_its_edges() {
        for value in [0, 1, PRIME - 1, PRIME, PRIME + 1, 2 * PRIME, 8 * PRIME - 1, u64::MAX - 7, u64::MAX] {
            assert_eq!(modulo(value), value % PRIME, "{value}");
        }
    }

    #[test]
    fn parameters_are_numpys() {
        let minhash = MinHash::new(MinHashSettings::FINEWEB).unwrap();
        let factors: Vec<u64> = minhash.parameters.iter().map(|pair| pair.0).take(3).collect();
        assert_eq!(factors, [775169054918279404, 1758426461858698313, 2109959069025162]);
        assert_eq!(minhash.parameters.len(), 112);
    }

    #[test]
    fn shingles_make_signatures() {
        let minhash = MinHash::new(MinHashSettings { ngram: 2, buckets: 3, rows: 2 }).unwrap();
        let signature = minhash.signature("One, two: THREE").unwrap();
        assert_eq!(signature.len(), 6);
        assert_eq!(minhash.signature("one two three"), Some(signature.clone()));
        assert_eq!((minhash.signature("one"), minhash.signature("")), (None, None));
        let keys: Vec<u128> = minhash.keys(&signature).collect();
        assert!(keys.len() == 3 && keys[0] != keys[1] && keys[1] != keys[2]);
        for (ngram, buckets, rows) in
            [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, usize::MAX, 2), (1, 1 << 8, 1 << 8)]
        {
            assert!(MinHash::new(MinHashSettings { ngram, buckets, rows }).is_err());
        }
        let chance = MinHashSettings::FINEWEB.probability(0.8);
        assert!((chance - 0.924).abs() < 1e-3, "{chance}");
    }
}

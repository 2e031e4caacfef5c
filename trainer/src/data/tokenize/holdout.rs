//! Which documents are held out: a function of the document's number and the seed.

use crate::data::source::{ReadOptions, RecordReader, SourcePosition, TextSource};
use crate::error::{Error, Result};
use crate::random::{self, GOLDEN};
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::str::FromStr;

/// Bytes read at once while counting.
const BATCH: usize = 8 << 20;

/// A held-out set.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdout {
    /// How many.
    pub share: HoldoutSize,
    /// Selects other documents.
    pub seed: u64,
    /// Folder of the set.
    pub output: PathBuf,
}

/// How many documents are held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldoutSize {
    /// About this fraction of them, between 0 and 1.
    Fraction(f64),
    /// This many records; empty ones among them are dropped.
    Documents(u64),
}

impl FromStr for HoldoutSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<HoldoutSize, String> {
        if let Ok(documents) = text.parse::<u64>()
            && documents > 0
        {
            return Ok(HoldoutSize::Documents(documents));
        }
        match text.parse::<f64>() {
            Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(HoldoutSize::Fraction(fraction)),
            _ => Err("expected a number of documents, or a fraction between 0 and 1".into()),
        }
    }
}

impl std::fmt::Display for HoldoutSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HoldoutSize::Fraction(fraction) => write!(f, "{fraction:?}"),
            HoldoutSize::Documents(documents) => write!(f, "{documents}"),
        }
    }
}

/// Documents whose mixed number is below this are held out.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldoutThreshold {
    seed: u64,
    below: u64,
}

impl HoldoutThreshold {
    /// Reads all sources once where a number of documents is asked for.
    pub(super) fn of(
        holdout: Option<&Holdout>,
        sources: &[TextSource],
        read: &ReadOptions,
    ) -> Result<HoldoutThreshold> {
        let Some(&Holdout { share, seed, .. }) = holdout else {
            return Ok(HoldoutThreshold { seed: 0, below: 0 });
        };
        let below = match share {
            // 2^64 as a float; the product is below it.
            HoldoutSize::Fraction(fraction) => (fraction * 18_446_744_073_709_551_616.0) as u64,
            HoldoutSize::Documents(wanted) => below_for(sources, read, wanted, seed)?,
        };
        Ok(HoldoutThreshold { seed, below })
    }

    /// Index of the document's set: 1 if it is held out, else 0.
    pub(super) fn set_index(self, index: u64) -> usize {
        usize::from(mix(self.seed, index) < self.below)
    }
}

fn below_for(sources: &[TextSource], read: &ReadOptions, wanted: u64, seed: u64) -> Result<u64> {
    let mut records = RecordReader::new(sources, read, SourcePosition::default());
    while records.batch(BATCH)?.is_some() {}
    let total = records.position().index;
    if wanted >= total {
        return Err(Error::Usage(format!(
            "expected to hold out less than all documents, found {wanted} of {total}; lower --holdout"
        )));
    }
    let mut smallest = BinaryHeap::new();
    for index in 0..total {
        smallest.push(mix(seed, index));
        if smallest.len() as u64 > wanted {
            smallest.pop();
        }
    }
    // No two numbers mix to the same, so exactly `wanted` are below.
    Ok(smallest.peek().map_or(0, |&largest| largest.saturating_add(1)))
}

/// Spreads a document's number over all 64 bits: SplitMix64 in a sequence of the seed's own, a bijection for any seed.
fn mix(seed: u64, index: u64) -> u64 {
    let start = random::mix(seed.wrapping_add(GOLDEN));
    random::mix(start.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

#[cfg(test)]
mod tests {
    use super::{HoldoutSize, mix};

    #[test]
    fn shares_are_read() {
        assert_eq!("200".parse(), Ok(HoldoutSize::Documents(200)));
        assert_eq!("0.05".parse(), Ok(HoldoutSize::Fraction(0.05)));
        for wrong in ["0", "1.0", "-1", "-0.5", "nan", "inf", "some", ""] {
            assert!(wrong.parse::<HoldoutSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fraction_is_about_that_fraction_and_the_seed_changes_it() {
        let held =
            |seed: u64| (0..100_000).filter(|&index| mix(seed, index) < u64::MAX / 20).collect::<Vec<_>>();
        for seed in [0, 1, 2] {
            let count = held(seed).len();
            // The standard deviation is 69.
            assert!(count.abs_diff(5_000) < 350, "{count}");
        }
        assert_ne!(held(0), held(1));
    }
}

//! Which documents are held out: a function of a document's number and the seed, so the same on every run.

use super::Job;
use crate::data::source::{Records, SourcePosition};
use crate::error::{Error, Result};
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::str::FromStr;

/// Bytes read at once while counting.
const BATCH: usize = 8 << 20;

/// Documents that go to a set of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdout {
    /// How many.
    pub share: Share,
    /// Chooses other ones.
    pub seed: u64,
    /// Where that set goes.
    pub output: PathBuf,
}

/// How many documents are held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// About this fraction of them, between 0 and 1.
    Fraction(f64),
    /// This many records; empty ones among them are dropped.
    Documents(u64),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Share, String> {
        if let Ok(documents) = text.parse::<u64>()
            && documents > 0
        {
            return Ok(Share::Documents(documents));
        }
        match text.parse::<f64>() {
            Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(Share::Fraction(fraction)),
            _ => Err("expected a number of documents, or a fraction between 0 and 1".into()),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Share::Fraction(fraction) => write!(f, "{fraction:?}"),
            Share::Documents(documents) => write!(f, "{documents}"),
        }
    }
}

/// Documents whose mixed number is below this are held out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    seed: u64,
    below: u64,
}

impl Threshold {
    /// Reads all sources once where a number of documents is asked for.
    pub(super) fn of(job: &Job<'_>) -> Result<Threshold> {
        let Some(Holdout { share, seed, .. }) = job.holdout else {
            return Ok(Threshold { seed: 0, below: 0 });
        };
        let below = match share {
            // 2^64 as a float; the product is below it.
            Share::Fraction(fraction) => (fraction * 18_446_744_073_709_551_616.0) as u64,
            Share::Documents(wanted) => below_for(job, wanted, seed)?,
        };
        Ok(Threshold { seed, below })
    }

    /// 1 where the document is held out, else 0.
    pub(super) fn destination(self, index: u64) -> usize {
        usize::from(mix(self.seed, index) < self.below)
    }
}

fn below_for(job: &Job<'_>, wanted: u64, seed: u64) -> Result<u64> {
    let mut records = Records::new(job.sources, &job.read, SourcePosition::default());
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

/// SplitMix64 (Steele, Lea and Flood 2014) of the document's number, in a sequence of the seed's own: a bijection of
/// the numbers for any seed.
fn mix(seed: u64, index: u64) -> u64 {
    let finish = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let start = finish(seed.wrapping_add(GOLDEN));
    finish(start.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

#[cfg(test)]
mod tests {
    use super::{Share, mix};

    #[test]
    fn shares_are_read() {
        assert_eq!("200".parse(), Ok(Share::Documents(200)));
        assert_eq!("0.05".parse(), Ok(Share::Fraction(0.05)));
        for wrong in ["0", "1.0", "-1", "-0.5", "nan", "inf", "some", ""] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
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

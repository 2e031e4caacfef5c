//! Deduplication: exact, and by MinHash with locality-sensitive hashing.

mod clusters;
mod job;
mod mersenne_twister;
mod minhash;
mod sort;

pub use clusters::{Clusters, KeyCollector};
pub use job::{DedupJob, DedupMethod, DedupProgress, DuplicateSets};
pub use minhash::{MinHash, MinHashSettings};

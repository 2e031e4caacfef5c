//! The threads that compute.

use super::simd::Simd;
use crate::error::{Error, Result};

/// Tokens of one task.
pub(super) const ROWS: usize = 64;
/// The threads and their instruction set.
pub(super) struct Threads {
    pool: rayon::ThreadPool,
    pub(super) simd: Simd,
}

impl Threads {
    pub(super) fn new(threads: usize) -> Result<Threads> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("train-{index}"))
            .build()
            .map_err(|error| Error::Invalid(format!("cannot start {threads} threads: {error}")))?;
        Ok(Threads { pool, simd: Simd::detect() })
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce(Simd) -> T + Send) -> T {
        self.pool.install(|| work(self.simd))
    }
}

//! A thread pool that counts how often its threads wait for each other.

use super::shared::ThreadPool;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Another pool, with a count of its barriers: the calls that give work to more than one shard, at whose end the caller waits
/// for all threads.
#[derive(Debug)]
pub struct CountingPool<'p, T> {
    pool: &'p T,
    barriers: AtomicUsize,
}

impl<'p, T: ThreadPool> CountingPool<'p, T> {
    /// Counts the barriers of `pool`, from 0 on.
    pub fn new(pool: &'p T) -> CountingPool<'p, T> {
        CountingPool { pool, barriers: AtomicUsize::new(0) }
    }

    /// Barriers since the last call.
    pub fn take(&self) -> usize {
        self.barriers.swap(0, Ordering::Relaxed)
    }
}

// SAFETY: all work is passed on unchanged to a pool that keeps the contract.
unsafe impl<T: ThreadPool> ThreadPool for CountingPool<'_, T> {
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn run(&self, shards: usize, job: &(dyn Fn(usize) + Sync)) {
        self.barriers.fetch_add(usize::from(shards > 1), Ordering::Relaxed);
        self.pool.run(shards, job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::SingleThread;

    #[test]
    fn only_calls_with_several_shards_are_barriers() {
        let pool = CountingPool::new(&SingleThread);
        let ran = AtomicUsize::new(0);
        for shards in [0, 1, 2, 7, 1] {
            pool.run(shards, &|_| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!((ran.into_inner(), pool.threads()), (11, 1));
        assert_eq!((pool.take(), pool.take()), (2, 0));
    }
}

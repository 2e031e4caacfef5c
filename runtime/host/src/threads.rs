//! A thread pool whose threads spin briefly before they sleep.
//!
//! Each call splits its shards into one range per thread. A thread first claims the shards of its own range, from a word
//! that others rarely touch, and then steals what is left of other ranges. So a preempted thread does less, and a call
//! waits only for claimed shards, never for a thread that has not woken up.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thimble_runtime::kernels::ThreadPool;

type Job = *const (dyn Fn(usize) + Sync);

/// Low half of a claim word: the next shard. High half: the end of the range.
const SHARD_BITS: u32 = 32;
const SHARD_MASK: u64 = (1 << SHARD_BITS) - 1;
/// How long a thread spins before it sleeps. On an idle core the wait takes a few microseconds. On a busy core it can last
/// another thread's time slice: spinning then wastes time slices and yielding goes to the end of the queue, while a sleeping
/// thread is scheduled as soon as it is woken.
const SPIN_TIME: Duration = Duration::from_micros(50);
/// Spins between two readings of the clock.
const SPINS: u32 = 64;

/// A wait in progress.
#[derive(Default)]
struct Wait {
    spins: u32,
    start: Option<Instant>,
}

impl Wait {
    /// Spins once; false when it is time to sleep.
    fn spin(&mut self) -> bool {
        std::hint::spin_loop();
        self.spins += 1;
        if !self.spins.is_multiple_of(SPINS) {
            return true;
        }
        self.start.get_or_insert_with(Instant::now).elapsed() < SPIN_TIME
    }
}

/// One thread's range of the current call. Aligned to two cache lines, since adjacent lines are often fetched in pairs.
#[repr(align(128))]
struct Slot {
    claims: AtomicU64,
    job: UnsafeCell<Option<Job>>,
}

impl Slot {
    fn is_empty(&self) -> bool {
        let word = self.claims.load(Ordering::Acquire);
        word & SHARD_MASK >= word >> SHARD_BITS
    }
}

struct Shared {
    /// The caller's first, then one for each worker.
    slots: Box<[Slot]>,
    /// Shards of the current call that workers have run.
    done: AtomicUsize,
    /// Whether any shard panicked.
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Number of sleeping workers.
    sleepers: AtomicUsize,
    /// Whether the caller is asleep.
    caller_sleeps: AtomicBool,
    lock: Mutex<()>,
    /// Signals workers: shards are available.
    wake: Condvar,
    /// Signals the caller: workers have finished shards.
    ran: Condvar,
}

// SAFETY: a slot's `job` is written only by `run`, after every shard of the call before has returned and before the
// slot's word of this call is published with release order; it is read only by a thread that has claimed a shard from
// that word with acquire order, which keeps `run` from returning until that shard is done.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer itself is free of thread affinity because the job is `Sync`.
unsafe impl Send for Shared {}

/// A thread pool of fixed size; the calling thread is one of its threads.
pub struct SpinPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Most threads that get shards.
    limit: AtomicUsize,
    /// One call at a time.
    running: Mutex<()>,
}

impl std::fmt::Debug for SpinPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpinPool({})", self.threads())
    }
}

/// Cores available to this process.
pub(crate) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Shared {
    /// Claims and runs the rest of a range; returns the number of shards it ran.
    fn drain(&self, slot: &Slot) -> usize {
        let mut ran = 0;
        loop {
            let word = slot.claims.load(Ordering::Acquire);
            if word & SHARD_MASK >= word >> SHARD_BITS {
                return ran;
            }
            let next = word + 1;
            if slot.claims.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
                continue;
            }
            // The word may belong to a later call than the one checked: then a shard of that call is claimed.
            // SAFETY: a shard of the current call is claimed, so `job` is not written until it is done.
            let job = unsafe { *slot.job.get() };
            if let Some(job) = job {
                // SAFETY: `run` keeps the job alive until every claimed shard is done.
                let job = unsafe { &*job };
                let shard = (word & SHARD_MASK) as usize;
                if catch_unwind(AssertUnwindSafe(|| job(shard))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            ran += 1;
        }
    }

    /// Runs the rest of thread `own`'s range, then of the others'; `each` gets the number of shards run in a range.
    fn work(&self, own: usize, mut each: impl FnMut(usize)) {
        let (before, from) = self.slots.split_at(own);
        for slot in from.iter().chain(before) {
            let ran = self.drain(slot);
            if ran > 0 {
                each(ran);
            }
        }
    }

    fn worker(&self, own: usize) {
        let mut wait = Wait::default();
        while !self.stop.load(Ordering::Relaxed) {
            if !self.slots[own].is_empty() {
                self.work(own, |ran| {
                    self.done.fetch_add(ran, Ordering::Release);
                    // Either this thread sees that the caller sleeps, or the caller sees these shards before it does.
                    fence(Ordering::SeqCst);
                    if self.caller_sleeps.load(Ordering::Relaxed) {
                        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
                        self.ran.notify_one();
                    }
                });
                wait = Wait::default();
                continue;
            }
            if wait.spin() {
                continue;
            }
            wait = Wait::default();
            let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            // Either this thread sees a range published before the fence in `run`, or `run` sees this sleeper.
            fence(Ordering::SeqCst);
            while !self.stop.load(Ordering::SeqCst) && self.slots[own].is_empty() {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until workers have run `shards` shards of the current call.
    fn wait_for(&self, shards: usize) {
        let mut wait = Wait::default();
        while self.done.load(Ordering::Acquire) < shards {
            if wait.spin() {
                continue;
            }
            let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.caller_sleeps.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            while self.done.load(Ordering::Acquire) < shards {
                guard = self.ran.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, Ordering::Relaxed);
        }
    }

    fn wake_sleepers(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

impl SpinPool {
    /// A pool of `threads` (at least 1), which includes the calling thread.
    pub fn new(threads: usize) -> std::io::Result<SpinPool> {
        let slot = |_| Slot { claims: AtomicU64::new(0), job: UnsafeCell::new(None) };
        let shared = Arc::new(Shared {
            slots: (0..threads.max(1)).map(slot).collect(),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            ran: Condvar::new(),
        });
        let limit = AtomicUsize::new(threads.max(1));
        let mut pool = SpinPool { shared, workers: Vec::new(), limit, running: Mutex::new(()) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("thimble-{index}"));
            pool.workers.push(builder.spawn(move || shared.worker(index))?);
        }
        Ok(pool)
    }

    /// Limits further calls to `threads` threads, at least 1. Results do not depend on it.
    pub fn limit(&self, threads: usize) {
        self.limit.store(threads.clamp(1, self.workers.len() + 1), Ordering::Relaxed);
    }
}

// SAFETY: the threads' ranges cut `0..shards`, every shard of a range is claimed once, by a compare-and-swap that counts
// up; `run` returns when as many shards have returned as there are, and the mutex keeps a second call from starting
// meanwhile.
unsafe impl ThreadPool for SpinPool {
    fn threads(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn run(&self, shards: usize, job: &(dyn Fn(usize) + Sync)) {
        let threads = self.threads();
        if threads == 1 || shards <= 1 {
            (0..shards).for_each(job);
            return;
        }
        assert!(shards as u64 <= SHARD_MASK, "a call has at most 2^32 shards");
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let job: *const (dyn Fn(usize) + Sync + '_) = job;
        // SAFETY: only the lifetime changes; the pointer is not used after this call has returned.
        let job: Job = unsafe { std::mem::transmute(job) };
        shared.done.store(0, Ordering::Relaxed);
        for (index, slot) in shared.slots.iter().enumerate().take(threads).rev() {
            let range = shards * index / threads..shards * (index + 1) / threads;
            // SAFETY: all shards of the call before are done and none can be claimed, so no thread reads this.
            unsafe { *slot.job.get() = Some(job) };
            slot.claims.store((range.end as u64) << SHARD_BITS | range.start as u64, Ordering::Release);
        }
        shared.wake_sleepers();
        let mut own = 0;
        shared.work(0, |ran| own += ran);
        shared.wait_for(shards - own);
        drop(guard);
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a shard panicked");
    }
}

impl Drop for SpinPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker only ends by returning: panics of jobs are caught.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_runs_once() {
        // Miri is slow; there the gate asks for many schedules instead.
        let (sizes, lengths, rounds): (&[usize], &[usize], usize) =
            if cfg!(miri) { (&[3], &[2, 7], 3) } else { (&[1, 2, 3, 8], &[0, 1, 2, 7, 64, 1000], 20) };
        for &threads in sizes {
            let pool = SpinPool::new(threads).unwrap();
            for &shards in lengths {
                let counts: Vec<AtomicUsize> = (0..shards).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..rounds {
                    pool.run(shards, &|shard| {
                        counts[shard].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == rounds));
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = SpinPool::new(4).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let count = AtomicUsize::new(0);
            pool.run(100, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 100);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = SpinPool::new(3).unwrap();
        let run = AssertUnwindSafe(|| pool.run(10, &|shard| assert_ne!(shard, 5)));
        assert!(catch_unwind(run).is_err());
        let count = AtomicUsize::new(0);
        pool.run(10, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 10);
    }
}

//! Work on several threads: the thread pool, and slices that shards write in disjoint parts.

use core::marker::PhantomData;

/// A thread pool: runs the shards of a job on one or more threads.
///
/// # Safety
/// `run` calls `job` exactly once with each number from 0 up to `shards`, and returns only when all those
/// calls have returned. Kernels rely on it when they give shards disjoint parts of a buffer.
pub unsafe trait ThreadPool: Sync {
    /// Number of threads.
    fn threads(&self) -> usize;

    /// Calls `job` once with each of `0..shards`, and waits. A job must not call `run` of the same pool.
    fn run(&self, shards: usize, job: &(dyn Fn(usize) + Sync));
}

/// The calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleThread;

// SAFETY: the loop visits each number once, and each call has returned before the next begins.
unsafe impl ThreadPool for SingleThread {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, shards: usize, job: &(dyn Fn(usize) + Sync)) {
        for shard in 0..shards {
            job(shard);
        }
    }
}

/// A mutable slice that shards access in disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a borrowed `&mut [T]`; whoever takes parts of it promises that they do not overlap.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as for Send: sharing it hands out nothing but disjoint `&mut` parts.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The slice from `start` on; empty past the end.
    pub(crate) fn after(&self, start: usize) -> Self {
        let start = start.min(self.len);
        // SAFETY: at most one past the last number of the borrowed slice.
        Disjoint { start: unsafe { self.start.add(start) }, len: self.len - start, slice: PhantomData }
    }

    /// The part of `len` elements from `start`.
    ///
    /// # Safety
    /// No other reference to any of these elements is alive while the result is.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a kernel's part lies inside its buffer");
        // SAFETY: the assertion keeps `start` inside the borrowed slice.
        let first = unsafe { self.start.add(start) };
        // SAFETY: inside the slice by the assertion, unaliased by the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(first, len) }
    }

    /// The part of `len` elements from `start`, read-only.
    ///
    /// # Safety
    /// No mutable reference to any of these elements is alive while the result is.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, start: usize, len: usize) -> &'a [T] {
        assert!(start <= self.len && len <= self.len - start, "a kernel's part lies inside its buffer");
        // SAFETY: the assertion keeps `start` inside the borrowed slice.
        let first = unsafe { self.start.add(start) };
        // SAFETY: inside the slice by the assertion, not written by the caller's promise.
        unsafe { core::slice::from_raw_parts(first, len) }
    }
}

//! How many threads compile grammars at a time.

use crate::cache::lock;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Most threads that compile for one vocabulary, those that nobody waits for any more among them.
pub(crate) const THREADS: usize = 4;

/// The threads that compile for a vocabulary.
#[derive(Default)]
pub(crate) struct Compilers {
    running: Mutex<usize>,
    ended: Condvar,
}

/// The right to run one of these threads.
pub(crate) struct Permit(Arc<Compilers>);

impl Compilers {
    /// Waits for the end of a thread where all are running; `None` after `most`.
    pub(crate) fn permit(self: &Arc<Self>, most: Duration) -> Option<Permit> {
        let waiting = self.ended.wait_timeout_while(lock(&self.running), most, |running| *running >= THREADS);
        let (mut running, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *running += 1;
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.0.running) -= 1;
        self.0.ended.notify_one();
    }
}

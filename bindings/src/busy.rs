//! Whether listeners may still be called, in the whole process.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Answers that wait or are being made.
static BUSY: Mutex<usize> = Mutex::new(0);
static IDLE: Condvar = Condvar::new();

/// One of them, until this is dropped, after its listener.
pub(crate) struct Busy(());

impl Busy {
    pub(crate) fn new() -> Busy {
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Busy(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        *busy -= 1;
        if *busy == 0 {
            IDLE.notify_all();
        }
    }
}

/// Waits until no answer is being made and every listener is dropped, at most this many milliseconds; whether that is so.
/// For a process about to end in a language whose runtime must not be called after that: cancel everything, then call
/// this. It blocks, so do not call it on a UI thread.
#[uniffi::export]
pub fn wait_until_idle(milliseconds: u32) -> bool {
    let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let most = Duration::from_millis(milliseconds.into());
    let waited = IDLE.wait_timeout_while(busy, most, |busy| *busy > 0);
    let (busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
    *busy == 0
}

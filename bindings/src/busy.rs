//! Whether listeners may still be called, in the whole process.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Answers that wait or are being made.
static BUSY: Mutex<usize> = Mutex::new(0);
static IDLE: Condvar = Condvar::new();

/// One of them. It is over after its listener was let go.
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

/// Waits until no answer is being made and every listener was let go, at most so many milliseconds; whether that is so.
/// For a process that ends in a language whose runtime must not be called any more then: cancel everything, and call
/// this. It waits, so it is not for a thread that draws a screen.
#[uniffi::export]
pub fn wait_until_idle(milliseconds: u32) -> bool {
    let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let most = Duration::from_millis(milliseconds.into());
    let waited = IDLE.wait_timeout_while(busy, most, |busy| *busy > 0);
    let (busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
    *busy == 0
}

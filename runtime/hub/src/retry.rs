//! Which failed requests are retried, and how often.

use crate::error::HubError;
use std::io::ErrorKind;
use std::time::Duration;
use ureq::Error;

/// Retries in a row without progress.
const RETRIES: u32 = 5;
/// The pause before the first retry; it doubles with each one.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 200 });

/// Why an attempt failed.
pub(crate) enum AttemptError {
    /// A retry may succeed.
    Transient(HubError),
    Permanent(HubError),
}

/// Counts attempts in a row without progress.
#[derive(Default)]
pub(crate) struct RetryCounter(u32);

impl RetryCounter {
    /// Counts a failed attempt and pauses; false, without a pause, after the last retry.
    pub(crate) fn wait(&mut self) -> bool {
        self.0 += 1;
        let again = self.0 <= RETRIES;
        if again {
            std::thread::sleep(PAUSE * (1 << (self.0 - 1)));
        }
        again
    }
}

/// Repeats an attempt until it succeeds, fails permanently, or runs out of retries.
pub(crate) fn retried<T>(mut attempt: impl FnMut() -> Result<T, AttemptError>) -> Result<T, HubError> {
    let mut retries = RetryCounter::default();
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(AttemptError::Transient(_)) if retries.wait() => {}
            Err(AttemptError::Transient(error) | AttemptError::Permanent(error)) => return Err(error),
        }
    }
}

/// Whether the hub may answer soon after this status.
pub(crate) fn is_retryable(status: u16) -> bool {
    status == 429 || status >= 500
}

/// Whether an established connection broke. Failed connections and timeouts are not retried: each one costs a wait.
pub(crate) fn is_broken_connection(error: &Error) -> bool {
    let met = [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    matches!(error, Error::Io(error) if met.contains(&error.kind()))
}

//! When the hub is asked once more.

use crate::error::HubError;
use std::io::ErrorKind;
use std::time::Duration;
use ureq::Error;

/// Attempts in a row that may bring nothing new, beyond the first.
const RETRIES: u32 = 5;
/// The pause before the first of them; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 200 });

/// Why an attempt failed.
pub(crate) enum Trouble {
    /// Another attempt may succeed.
    Passing(HubError),
    Final(HubError),
}

/// Attempts in a row that brought nothing new.
#[derive(Default)]
pub(crate) struct Failures(u32);

impl Failures {
    /// Counts one more and waits; false without a wait where it was the last.
    pub(crate) fn again(&mut self) -> bool {
        self.0 += 1;
        let again = self.0 <= RETRIES;
        if again {
            std::thread::sleep(PAUSE * (1 << (self.0 - 1)));
        }
        again
    }
}

/// Repeats an attempt until it succeeds, fails for good, or has failed too often.
pub(crate) fn retried<T>(mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, HubError> {
    let mut failures = Failures::default();
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(Trouble::Passing(_)) if failures.again() => {}
            Err(Trouble::Passing(error) | Trouble::Final(error)) => return Err(error),
        }
    }
}

/// Whether a status tells of a hub that may answer in a moment.
pub(crate) fn busy(status: u16) -> bool {
    status == 429 || status >= 500
}

/// Whether a connection that stood broke. Whoever is offline, or asks a silent hub, shall not wait several times.
pub(crate) fn broke(error: &Error) -> bool {
    let met = [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    matches!(error, Error::Io(error) if met.contains(&error.kind()))
}

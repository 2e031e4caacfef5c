//! Whether the server goes on.

use std::sync::atomic::{AtomicBool, Ordering};

/// The end of the server, in two steps.
#[derive(Debug, Default)]
pub(crate) struct Control {
    stopping: AtomicBool,
    finishing: AtomicBool,
}

impl Control {
    /// From now on, new requests are refused.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// From now on, answers end with what they have.
    pub(crate) fn finish(&self) {
        self.finishing.store(true, Ordering::Relaxed);
    }

    /// Whether new requests are refused.
    pub(crate) fn stops(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether answers end with what they have.
    pub(crate) fn finishes(&self) -> bool {
        self.finishing.load(Ordering::Relaxed)
    }
}

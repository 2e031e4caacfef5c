//! Whether a run is to stop, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How far a run is; this decides what stopping it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// No step was begun: nothing is lost by ending the process.
    Preparing,
    /// The step in progress is finished and saved before the run ends.
    Training,
    /// All steps are done and saved.
    Finished,
}

/// A request to stop, which a signal makes, and the phase of the run that it reaches.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    asked: Arc<AtomicBool>,
    phase: Arc<AtomicU8>,
}

impl StopRequest {
    /// What a signal sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.asked.clone()
    }

    /// Whether the run is to stop.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// How far the run is.
    pub fn phase(&self) -> RunPhase {
        match self.phase.load(Ordering::SeqCst) {
            0 => RunPhase::Preparing,
            1 => RunPhase::Training,
            _ => RunPhase::Finished,
        }
    }

    /// The run has come to a phase.
    pub(super) fn enter(&self, phase: RunPhase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::{RunPhase, StopRequest};

    #[test]
    fn clones_share_the_request_and_the_phase() {
        let (stop, other) = (StopRequest::default(), StopRequest::default());
        let seen = stop.clone();
        assert_eq!((seen.asked(), seen.phase()), (false, RunPhase::Preparing));
        for phase in [RunPhase::Training, RunPhase::Finished] {
            stop.enter(phase);
            assert_eq!(seen.phase(), phase);
        }
        stop.flag().store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(seen.asked() && !other.asked());
    }
}

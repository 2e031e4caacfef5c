//! Requests that wait to be prepared: each client in turn, and those with a grammar to compile apart from the others.

use crate::prepare::Preparer;
use crate::schedule::{ClientId, FairQueue};
use serde_json::Value;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Work for a thread that prepares requests.
pub(crate) type Preparation = Box<dyn for<'f> FnOnce(&Preparer<'f>) + Send>;

/// Which requests a thread prepares: a grammar may take seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Those without a grammar.
    Plain,
    /// Those with one.
    Grammar,
}

/// Fields that mean a grammar.
const SHAPES: [&str; 7] = [
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "tools",
];

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Lane; 2] = [Lane::Plain, Lane::Grammar];

    /// The lane of a request.
    pub(crate) fn of(object: &Value) -> Lane {
        let shaped = SHAPES.iter().any(|field| object.get(field).is_some_and(|value| !value.is_null()));
        if shaped { Lane::Grammar } else { Lane::Plain }
    }
}

/// What waits in all lanes.
#[derive(Default)]
pub(crate) struct Preparations {
    lanes: [Waiting; 2],
}

#[derive(Default)]
struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: FairQueue<Preparation>,
    closed: bool,
}

/// Puts requests into the lanes; the lanes end with it.
pub(crate) struct PreparationSender {
    to: Arc<Preparations>,
    /// Most requests that wait in a lane.
    most: usize,
}

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneFull;

impl Preparations {
    /// Waits for the next request of a lane; `None` after the end.
    pub(crate) fn next(&self, lane: Lane) -> Option<Preparation> {
        let waiting = &self.lanes[lane as usize];
        let idle = |state: &mut State| state.queue.is_empty() && !state.closed;
        let state = waiting.changed.wait_while(waiting.lock(), idle);
        state.unwrap_or_else(PoisonError::into_inner).queue.pop()
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreparationSender {
    /// Lanes in each of which `most` requests may wait.
    pub(crate) fn new(to: Arc<Preparations>, most: usize) -> PreparationSender {
        PreparationSender { to, most }
    }

    /// Adds a request behind those of its client.
    ///
    /// # Errors
    /// The lane is full.
    pub(crate) fn send(&self, lane: Lane, client: ClientId, work: Preparation) -> Result<(), LaneFull> {
        let waiting = &self.to.lanes[lane as usize];
        let mut state = waiting.lock();
        if state.queue.len() >= self.most.max(1) {
            return Err(LaneFull);
        }
        state.queue.push(client, work);
        waiting.changed.notify_one();
        Ok(())
    }
}

impl Drop for PreparationSender {
    fn drop(&mut self) {
        for waiting in &self.to.lanes {
            waiting.lock().closed = true;
            waiting.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lanes_are_bounded_and_end_with_their_sender() {
        let lanes = Arc::new(Preparations::default());
        let sender = PreparationSender::new(Arc::clone(&lanes), 2);
        let nothing = || -> Preparation { Box::new(|_| ()) };
        assert_eq!(sender.send(Lane::Grammar, 1, nothing()), Ok(()));
        assert_eq!(sender.send(Lane::Grammar, 2, nothing()), Ok(()));
        assert_eq!(sender.send(Lane::Grammar, 3, nothing()), Err(LaneFull));
        // The other lane does not wait for this one.
        assert_eq!(sender.send(Lane::Plain, 3, nothing()), Ok(()));
        assert!(lanes.next(Lane::Plain).is_some());
        drop(sender);
        assert!(lanes.next(Lane::Plain).is_none());
        assert!(lanes.next(Lane::Grammar).is_some() && lanes.next(Lane::Grammar).is_some());
        assert!(lanes.next(Lane::Grammar).is_none());
    }

    #[test]
    fn a_grammar_has_a_lane_of_its_own() {
        assert_eq!(Lane::of(&json!({ "messages": [], "tools": null })), Lane::Plain);
        assert_eq!(Lane::of(&json!({ "guided_regex": "a" })), Lane::Grammar);
        assert_eq!(Lane::of(&json!({ "tools": [] })), Lane::Grammar);
    }
}

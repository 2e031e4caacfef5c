//! What the platform asks for while an answer is made: to wait, to give memory back, to work with fewer threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thimble_chat::{ChatError, ChatModel};
use thimble_host::SpinPool;
use thimble_runtime::Token;
use thimble_runtime::chat::Message;

/// Where work waits.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    /// Threads that may work.
    threads: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    /// How often memory was asked back.
    asked: u64,
    /// Up to which of those it was given.
    given: u64,
}

impl Gate {
    pub(crate) fn new(threads: usize) -> Gate {
        Gate { state: Mutex::default(), changed: Condvar::new(), threads: AtomicUsize::new(threads) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.state().paused = paused;
        self.changed.notify_all();
    }

    pub(crate) fn set_threads(&self, threads: usize) {
        self.threads.store(threads, Ordering::Relaxed);
    }

    /// Wakes who waits, to look whether it was cancelled: with the lock, so that it cannot be between its look and its
    /// sleep.
    pub(crate) fn nudge(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    /// Asks for the memory; the number of this wish.
    pub(crate) fn ask_memory(&self) -> u64 {
        let mut state = self.state();
        state.asked += 1;
        let asked = state.asked;
        drop(state);
        self.changed.notify_all();
        asked
    }

    /// Whether this wish is still open; it is not any more.
    pub(crate) fn grant(&self, wish: u64) -> bool {
        let mut state = self.state();
        let open = wish > state.given;
        state.given = state.given.max(wish);
        open
    }

    /// Returns when work may go on, or with true if it was cancelled. No memory is held meanwhile: wishes for it are
    /// granted.
    pub(crate) fn cancelled_outside(&self, cancelled: &AtomicBool) -> bool {
        let mut state = self.state();
        while state.paused && !cancelled.load(Ordering::Relaxed) {
            state.given = state.asked;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        cancelled.load(Ordering::Relaxed)
    }

    /// The same with memory held: returns with true if that is wanted back before.
    fn wait(&self, cancelled: &AtomicBool) -> bool {
        let mut state = self.state();
        while state.paused && !cancelled.load(Ordering::Relaxed) {
            if state.asked > state.given {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Whether work is to wait.
    pub(crate) fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Whether the memory is wanted and still held.
    #[cfg(test)]
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.state();
        state.asked > state.given
    }

    /// Leaves the session for good: what was asked up to now is given.
    pub(crate) fn left(&self) {
        let mut state = self.state();
        state.given = state.asked;
    }
}

/// A gate as one answer passes it.
pub(crate) struct Passage<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) pool: &'a SpinPool,
    pub(crate) cancelled: &'a AtomicBool,
    /// Time spent waiting, before and after the first token was chosen.
    pub(crate) waited: [Cell<Duration>; 2],
    pub(crate) decoding: Cell<bool>,
    /// The memory is wanted back while work waits.
    pub(crate) evicted: Cell<bool>,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(gate: &'a Gate, pool: &'a SpinPool, cancelled: &'a AtomicBool) -> Passage<'a> {
        let (waited, decoding, evicted) = (Default::default(), Cell::new(false), Cell::new(false));
        Passage { gate, pool, cancelled, waited, decoding, evicted }
    }

    /// Returns when work may go on.
    pub(crate) fn pass(&self) {
        let begin = Instant::now();
        self.evicted.set(self.gate.wait(self.cancelled));
        let waited = &self.waited[usize::from(self.decoding.get())];
        waited.set(waited.get() + begin.elapsed());
        self.pool.limit(self.gate.threads.load(Ordering::Relaxed));
    }
}

/// A model that passes the gate before it computes anything.
pub(crate) struct Gated<'a, V> {
    pub(crate) model: V,
    pub(crate) passage: &'a Passage<'a>,
}

impl<V: ChatModel> Gated<'_, V> {
    /// Waits where work is to wait, with keys and values on disk: the app may be ended meanwhile.
    fn pass(&mut self) {
        if self.passage.gate.is_paused() {
            self.model.save_cache();
        }
        self.passage.pass();
    }
}

impl<V: ChatModel> ChatModel for Gated<'_, V> {
    fn context(&self) -> usize {
        self.model.context()
    }

    fn encode(&self, messages: &[Message<'_>]) -> Result<Vec<Token>, ChatError> {
        self.model.encode(messages)
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        self.model.reuse(tokens)
    }

    fn batch(&self) -> usize {
        self.model.batch()
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.pass();
        if self.passage.evicted.get() {
            return Err(ChatError::Evicted);
        }
        self.model.prefill(tokens)
    }

    fn sample(&mut self) -> Token {
        self.passage.decoding.set(true);
        let token = self.model.sample();
        // What came while that was computed: nothing is shown in a pause.
        self.pass();
        token
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.model.bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        self.model.is_stop(token)
    }
}

//! What the platform may request while an answer is made: a pause, memory, fewer threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thimble_chat::{ChatError, ChatModel, ChatPrompt};
use thimble_host::SpinPool;
use thimble_runtime::Token;
use thimble_runtime::sampler::{SampledToken, TokenMask};

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
    /// How often memory was requested.
    requested: u64,
    /// Up to which of those requests it was given back.
    granted: u64,
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

    /// Wakes the thread to check whether it was cancelled. Takes the lock, so that the thread cannot be between its check
    /// and its sleep.
    pub(crate) fn nudge(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    /// Requests the memory; returns the number of the request.
    pub(crate) fn request_memory(&self) -> u64 {
        let mut state = self.state();
        state.requested += 1;
        let number = state.requested;
        drop(state);
        self.changed.notify_all();
        number
    }

    /// Grants the request with this number; whether it was still open.
    pub(crate) fn grant(&self, number: u64) -> bool {
        let mut state = self.state();
        let open = number > state.granted;
        state.granted = state.granted.max(number);
        open
    }

    /// Waits until work may go on; true if it was cancelled. No memory is held meanwhile, so requests for it are granted.
    pub(crate) fn cancelled_outside(&self, cancelled: &AtomicBool) -> bool {
        let mut state = self.state();
        while state.paused && !cancelled.load(Ordering::Relaxed) {
            state.granted = state.requested;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        cancelled.load(Ordering::Relaxed)
    }

    /// Waits likewise with memory held; true if that is requested before work may go on.
    fn wait(&self, cancelled: &AtomicBool) -> bool {
        let mut state = self.state();
        while state.paused && !cancelled.load(Ordering::Relaxed) {
            if state.requested > state.granted {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    /// Whether work has to wait.
    pub(crate) fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Whether the memory is requested and still held.
    #[cfg(test)]
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.state();
        state.requested > state.granted
    }

    /// Leaves the session for good, which grants all requests so far.
    pub(crate) fn left(&self) {
        let mut state = self.state();
        state.granted = state.requested;
    }
}

/// One answer's way through a gate.
pub(crate) struct Passage<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) pool: &'a SpinPool,
    pub(crate) cancelled: &'a AtomicBool,
    /// Time spent waiting, before and after the first token was sampled.
    pub(crate) waited: [Cell<Duration>; 2],
    pub(crate) decoding: Cell<bool>,
    /// The memory is requested while work waits.
    pub(crate) evicted: Cell<bool>,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(gate: &'a Gate, pool: &'a SpinPool, cancelled: &'a AtomicBool) -> Passage<'a> {
        let (waited, decoding, evicted) = (Default::default(), Cell::new(false), Cell::new(false));
        Passage { gate, pool, cancelled, waited, decoding, evicted }
    }

    /// Waits until work may go on.
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
    /// Waits in a pause, with keys and values on disk: the system may end the app meanwhile.
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

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        self.model.encode(prompt)
    }

    fn has_reasoning(&self) -> bool {
        self.model.has_reasoning()
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
        // A pause that began while that was computed: nothing is shown in it.
        self.pass();
        token
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        self.passage.decoding.set(true);
        let token = self.model.sample_masked(mask);
        self.pass();
        token
    }

    fn keep_log_probabilities(&mut self, alternatives: Option<usize>) {
        self.model.keep_log_probabilities(alternatives);
    }

    fn keeps_log_probabilities(&self) -> bool {
        self.model.keeps_log_probabilities()
    }

    fn sampled(&self) -> Option<SampledToken<'_>> {
        self.model.sampled()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.model.bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        self.model.is_stop(token)
    }
}

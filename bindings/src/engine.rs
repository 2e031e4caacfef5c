//! The thread that owns a session: orders in, answers out.

use crate::busy::Busy;
use crate::journal::Journal;
use crate::listener::{Listener, ListenerError, Reply};
use crate::{ApiError, Stats};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use thimble_host::Pool;
use thimble_host::chat::{Conversation, Dialogue, Event, Voice};

/// Where a thread's voice comes from: its memory is taken with the first message, and again after it was given back.
pub(crate) trait Studio: Send + 'static {
    /// Lends a voice and its threads to `work`, and takes their memory back afterwards.
    fn enter(&self, work: &mut dyn FnMut(&mut dyn Voice, &Pool)) -> Result<(), ApiError>;
}

/// What a thread works with.
pub(crate) struct Desk {
    /// Where voices come from.
    pub(crate) studio: Box<dyn Studio>,
    /// Longest answer in tokens.
    pub(crate) max_tokens: usize,
    /// Texts that end an answer.
    pub(crate) stops: Vec<String>,
    /// What has everything on disk before it is shown.
    pub(crate) journal: Option<Journal>,
}

/// Something to do.
enum Order {
    /// Answer a message.
    Answer(Asked),
    /// Go on with another conversation, which is the number given.
    Replace(Conversation, u64),
    /// Give the session's memory back.
    Free,
}

/// A message to be answered, or the last one once more.
struct Asked {
    text: Option<String>,
    listener: Arc<dyn Listener>,
    cancelled: Arc<AtomicBool>,
    /// The last field: the listener is let go before.
    busy: Busy,
}

/// What was said, as far as it is complete.
#[derive(Debug)]
struct Kept {
    conversation: Conversation,
    /// Counts the conversations that took another one's place: an answer to an older one is not of this one.
    number: u64,
    /// Of the last answer.
    stats: Stats,
}

/// What an engine and its thread share.
#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    /// Threads that may work.
    threads: AtomicUsize,
    /// Whether work waits.
    paused: Mutex<bool>,
    resumed: Condvar,
}

/// A lock whose holder cannot have left anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One answer, to stop it and no other. It may be dropped: the answer goes on.
#[derive(Debug, uniffi::Object)]
pub struct Answer {
    cancelled: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

#[uniffi::export]
impl Answer {
    /// Stops this answer, also one that waits or is paused; its listener hears the end. Nothing where it is complete.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.shared.nudge();
    }
}

/// A thread that answers, from outside. It ends as soon as it can once this is dropped, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    orders: Mutex<Orders>,
    threads: usize,
}

/// Held while an order is given, so that orders and their flags have one order.
#[derive(Debug)]
struct Orders {
    sender: Sender<Order>,
    /// Flags of answers that are not complete.
    flags: Vec<Weak<AtomicBool>>,
}

impl Orders {
    fn give(&self, order: Order) {
        // The thread ends only after the last sender is gone.
        let _ = self.sender.send(order);
    }

    fn cancel(&mut self) {
        for flag in self.flags.drain(..).filter_map(|flag| flag.upgrade()) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

impl Engine {
    /// Starts the thread `name`, which goes on from `conversation` with at most `threads` threads.
    pub(crate) fn start(
        name: &str,
        conversation: Conversation,
        threads: usize,
        desk: Desk,
    ) -> Result<Engine, ApiError> {
        let shared = Arc::new(Shared {
            kept: Mutex::new(Kept { conversation, number: 0, stats: Stats::default() }),
            threads: AtomicUsize::new(threads),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
        });
        let (sender, receiver) = channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || work(desk, &theirs, &receiver)).map_err(ApiError::other)?;
        Ok(Engine { shared, orders: Mutex::new(Orders { sender, flags: Vec::new() }), threads })
    }

    /// Answers `text`, or the last message once more.
    pub(crate) fn ask(&self, text: Option<String>, listener: Arc<dyn Listener>) -> Answer {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut orders = lock(&self.orders);
        orders.flags.retain(|flag| flag.strong_count() > 0);
        orders.flags.push(Arc::downgrade(&cancelled));
        let answer = Answer { cancelled: Arc::clone(&cancelled), shared: Arc::clone(&self.shared) };
        orders.give(Order::Answer(Asked { text, listener, cancelled, busy: Busy::new() }));
        answer
    }

    /// Stops all answers that were asked for so far.
    pub(crate) fn cancel(&self) {
        lock(&self.orders).cancel();
        self.shared.nudge();
    }

    /// Stops all answers and goes on with what `change` makes of the conversation.
    pub(crate) fn replace(&self, change: impl FnOnce(&Conversation) -> Conversation) {
        let mut orders = lock(&self.orders);
        orders.cancel();
        let mut kept = lock(&self.shared.kept);
        kept.conversation = change(&kept.conversation);
        kept.number += 1;
        orders.give(Order::Replace(kept.conversation.clone(), kept.number));
        drop((kept, orders));
        self.shared.nudge();
    }

    /// What was said, as far as it is complete.
    pub(crate) fn conversation(&self) -> Conversation {
        lock(&self.shared.kept).conversation.clone()
    }

    /// Figures of the last answer.
    pub(crate) fn stats(&self) -> Stats {
        lock(&self.shared.kept).stats
    }

    /// Lets the thread wait, or go on.
    pub(crate) fn pause(&self, paused: bool) {
        *lock(&self.shared.paused) = paused;
        self.shared.resumed.notify_all();
    }

    /// Works with half the threads, or with all.
    pub(crate) fn save_power(&self, save: bool) {
        let threads = if save { self.threads.div_ceil(2) } else { self.threads };
        self.shared.threads.store(threads, Ordering::Relaxed);
    }

    /// Gives the session's memory back, after what was asked so far.
    pub(crate) fn free(&self) {
        lock(&self.orders).give(Order::Free);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.cancel();
        self.pause(false);
    }
}

impl Shared {
    /// The conversation to begin with; `replace` may have put another one in its place already, whose order comes.
    fn begin(&self) -> (Conversation, u64) {
        let kept = lock(&self.kept);
        (kept.conversation.clone(), kept.number)
    }

    /// Returns when work may go on. Who cancels wakes it too.
    fn wait(&self, cancelled: &AtomicBool) {
        let mut paused = lock(&self.paused);
        while *paused && !cancelled.load(Ordering::Relaxed) {
            paused = self.resumed.wait(paused).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes a thread that waits, to look at what has changed: with the lock, so that it cannot be between its look
    /// and its sleep.
    fn nudge(&self) {
        drop(lock(&self.paused));
        self.resumed.notify_all();
    }
}

/// Tells a listener something; whether it took it. One that fails, in whatever way, is not the engine's business.
fn tell(call: impl FnOnce() -> Result<(), ListenerError>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(call)), Ok(Ok(())))
}

/// Works on orders until no one can give any more.
fn work(desk: Desk, shared: &Shared, orders: &Receiver<Order>) {
    let Desk { studio, max_tokens, stops, journal } = desk;
    let (conversation, number) = shared.begin();
    let mut turn = Turn { shared, journal, conversation, number, waiting: None };
    let mut next = orders.recv().ok();
    while let Some(order) = next.take() {
        match order {
            Order::Free => {}
            Order::Replace(conversation, number) => turn.replace(conversation, number),
            Order::Answer(asked) if asked.cancelled.load(Ordering::Relaxed) => {
                tell(|| asked.listener.on_end(Reply::default()));
            }
            Order::Answer(asked) => {
                turn.waiting = Some((Arc::clone(&asked.listener), Busy::new()));
                let mut first = Some(asked);
                let entered = catch_unwind(AssertUnwindSafe(|| {
                    studio.enter(&mut |voice, pool| {
                        let (conversation, stops) = (turn.conversation.clone(), stops.clone());
                        let mut dialogue =
                            Dialogue { voice, conversation, max_tokens: Some(max_tokens), stops };
                        next =
                            first.take().and_then(|asked| turn.session(&mut dialogue, pool, asked, orders));
                    })
                }));
                let entered =
                    entered.unwrap_or_else(|_| Err(ApiError::other("the engine failed: report this")));
                // Whoever waits for an answer hears that there is none; the next message begins with a new session.
                if let (Err(error), Some(waiting)) = (entered, turn.waiting.take()) {
                    tell(|| waiting.0.on_error(error));
                }
            }
        }
        next = next.or_else(|| orders.recv().ok());
    }
}

/// The thread's side of a conversation.
struct Turn<'a> {
    shared: &'a Shared,
    journal: Option<Journal>,
    /// What was said, as far as it is complete.
    conversation: Conversation,
    /// Its number.
    number: u64,
    /// Who waits for the answer at hand; in this order, so that the listener is let go before.
    waiting: Option<(Arc<dyn Listener>, Busy)>,
}

impl Turn<'_> {
    /// Answers with a session in memory until that is to be given back; the order after that, if it is at hand.
    fn session(
        &mut self,
        dialogue: &mut Dialogue<&mut dyn Voice>,
        pool: &Pool,
        first: Asked,
        orders: &Receiver<Order>,
    ) -> Option<Order> {
        self.answer(dialogue, pool, first);
        loop {
            match orders.recv().ok()? {
                Order::Answer(asked) => self.answer(dialogue, pool, asked),
                Order::Replace(conversation, number) => {
                    dialogue.conversation.clone_from(&conversation);
                    self.replace(conversation, number);
                }
                Order::Free => return orders.try_recv().ok(),
            }
        }
    }

    /// Writes something to the journal, if there is one.
    fn note(&mut self, write: impl FnOnce(&mut Journal) -> Result<(), ApiError>) -> Result<(), ApiError> {
        self.journal.as_mut().map_or(Ok(()), write)
    }

    /// Another conversation from now on.
    fn replace(&mut self, conversation: Conversation, number: u64) {
        // A journal that cannot be written says so with the next message.
        let _ = self.note(|journal| journal.replace(&conversation));
        (self.conversation, self.number) = (conversation, number);
    }

    /// Keeps what was said, and the figures, unless another conversation has taken its place.
    fn keep(&mut self, conversation: &Conversation, stats: Option<Stats>) {
        self.conversation.clone_from(conversation);
        let mut kept = lock(&self.shared.kept);
        if kept.number == self.number {
            kept.conversation.clone_from(conversation);
        }
        kept.stats = stats.unwrap_or(kept.stats);
    }

    /// Answers and tells the listener, which hears nothing that is not in the journal.
    fn answer(&mut self, dialogue: &mut Dialogue<&mut dyn Voice>, pool: &Pool, asked: Asked) {
        // What is bound first is let go last.
        let Asked { busy: _busy, text, listener, cancelled } = asked;
        self.waiting = Some((Arc::clone(&listener), Busy::new()));
        let (user, noted, again) = match text {
            Some(text) => {
                let noted = self.note(|journal| journal.user(&text));
                (text, noted, None)
            }
            None => match dialogue.take_last() {
                Some(last) => (last.user.clone(), self.note(Journal::again), Some(last)),
                None => {
                    let none = ApiError::other("there is no message to answer again");
                    (String::new(), Err(none), None)
                }
            },
        };
        let before = dialogue.conversation.turns.len();
        let mut forgotten = 0;
        let answered = noted.and_then(|()| {
            dialogue.answer(&user, &cancelled, &mut |event| {
                self.shared.wait(&cancelled);
                pool.limit(self.shared.threads.load(Ordering::Relaxed));
                let told = match event {
                    Event::Text(text) => {
                        self.note(|journal| journal.piece(text))?;
                        tell(|| listener.on_piece(text.to_owned()))
                    }
                    Event::Forgot { turns } => {
                        forgotten += turns;
                        true
                    }
                    Event::Reading { done, of } => tell(|| listener.on_progress(done as u32, of as u32)),
                };
                if !told {
                    // The answer ends as if it had been cancelled: what was shown is remembered.
                    cancelled.store(true, Ordering::Relaxed);
                }
                Ok::<(), ApiError>(())
            })
        });
        let remembered = answered.as_ref().is_ok_and(|answer| answer.remembered);
        let gone = (before + usize::from(remembered)).saturating_sub(dialogue.conversation.turns.len());
        let ended = self.note(|journal| journal.end(remembered).and_then(|()| journal.forget(gone)));
        // Not answered: the turn stays as it was.
        dialogue.conversation.turns.extend(again.filter(|_| !remembered));
        let answered = answered.and_then(|answer| ended.map(|()| answer)).map(|answer| {
            let text =
                dialogue.conversation.turns.last().filter(|_| remembered).map(|turn| turn.answer.clone());
            let text = text.unwrap_or_default();
            Reply { text, forgotten_turns: forgotten as u32, ..Reply::new(&answer) }
        });
        self.keep(&dialogue.conversation, answered.as_ref().ok().map(Stats::new));
        self.waiting = None;
        // A listener that fails at the end has nothing left to stop.
        tell(|| match answered {
            Ok(reply) => listener.on_end(reply),
            Err(error) => listener.on_error(error),
        });
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

//! The thread that owns a session: orders in, answers out.

use crate::busy::Busy;
use crate::gate::{Gate, Gated, Passage};
use crate::journal::Journal;
use crate::listener::{Listener, ListenerError, Reply};
use crate::{ApiError, Stats};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use thimble_chat::{ChatEvent, ChatModel, ChatSession, Conversation, Turn as Said};
use thimble_host::SpinPool;
use thimble_runtime::Token;

/// Where a thread's sessions come from: memory is taken with the first message, and again after it was given back.
pub(crate) trait SessionSource: Send + 'static {
    /// Lends a session and its threads to `work`, and takes their memory back afterwards.
    fn with_session(&self, work: &mut dyn FnMut(&mut dyn ChatModel, &SpinPool)) -> Result<(), ApiError>;
    /// Forgets what sessions have kept for later ones.
    fn forget(&self) {}
}

/// What a thread works with.
pub(crate) struct WorkerOptions {
    /// Where sessions come from.
    pub(crate) sessions: Box<dyn SessionSource>,
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
    /// Give the session's memory back, as the wish with this number.
    Free(u64),
    /// Keep what was computed, if there is a place for it.
    Keep,
}

/// A message to be answered, or the last one once more.
struct Asked {
    text: Option<String>,
    /// Whether the message is in the journal.
    noted: Result<(), ApiError>,
    /// What there is of the answer.
    begun: Option<Begun>,
    listener: Arc<dyn Listener>,
    cancelled: Arc<AtomicBool>,
    /// The last field: the listener is let go before.
    busy: Busy,
}

impl Asked {
    /// Whether the journal has it as a message that waits.
    fn waits(&self) -> bool {
        self.text.is_some() && self.noted.is_ok() && self.begun.is_none()
    }
}

/// An answer that was begun, in one session or in several.
#[derive(Default)]
struct Begun {
    /// The message.
    user: String,
    /// Its tokens so far.
    said: Vec<Token>,
    /// What was shown of it.
    shown: String,
    /// Turns that gave way.
    forgotten: usize,
    /// Time in sessions that had to be left.
    spent: Duration,
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

/// What a worker and its thread share.
#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    gate: Gate,
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
        self.shared.gate.nudge();
    }
}

/// A thread that answers, from outside. It ends as soon as it can once this is dropped, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    orders: Mutex<Orders>,
    journal: Option<Journal>,
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

impl Worker {
    /// Starts the thread `name`, which goes on from `conversation` with at most `threads` threads.
    pub(crate) fn start(
        name: &str,
        conversation: Conversation,
        threads: usize,
        engine_options: WorkerOptions,
    ) -> Result<Worker, ApiError> {
        let shared = Arc::new(Shared {
            kept: Mutex::new(Kept { conversation, number: 0, stats: Stats::default() }),
            gate: Gate::new(threads),
        });
        let (sender, receiver) = channel();
        let journal = engine_options.journal.clone();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || work(engine_options, &theirs, &receiver)).map_err(ApiError::other)?;
        Ok(Worker { shared, orders: Mutex::new(Orders { sender, flags: Vec::new() }), journal, threads })
    }

    /// Answers `text`, or the last message once more. The message is in the journal when this returns.
    pub(crate) fn ask(&self, text: Option<String>, listener: Arc<dyn Listener>) -> Answer {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut orders = lock(&self.orders);
        orders.flags.retain(|flag| flag.strong_count() > 0);
        orders.flags.push(Arc::downgrade(&cancelled));
        let answer = Answer { cancelled: Arc::clone(&cancelled), shared: Arc::clone(&self.shared) };
        let noted = match (&self.journal, &text) {
            (Some(journal), Some(text)) => journal.user(text),
            _ => Ok(()),
        };
        let (begun, busy) = (None, Busy::new());
        orders.give(Order::Answer(Asked { text, noted, begun, listener, cancelled, busy }));
        answer
    }

    /// Stops all answers that were asked for so far.
    pub(crate) fn cancel(&self) {
        lock(&self.orders).cancel();
        self.shared.gate.nudge();
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
        self.shared.gate.nudge();
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
        self.shared.gate.pause(paused);
        if paused {
            lock(&self.orders).give(Order::Keep);
        }
    }

    /// Works with half the threads, or with all.
    pub(crate) fn save_power(&self, save: bool) {
        let threads = if save { self.threads.div_ceil(2) } else { self.threads };
        self.shared.gate.set_threads(threads);
    }

    /// Gives the session's memory back: after what was asked so far, or at once while work waits.
    pub(crate) fn free(&self) {
        let orders = lock(&self.orders);
        orders.give(Order::Free(self.shared.gate.ask_memory()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.closing();
        }
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
}

/// Tells a listener something; whether it took it. One that fails, in whatever way, is not the worker's business.
fn notify(call: impl FnOnce() -> Result<(), ListenerError>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(call)), Ok(Ok(())))
}

/// Works on orders until no one can give any more.
fn work(engine_options: WorkerOptions, shared: &Shared, orders: &Receiver<Order>) {
    let WorkerOptions { sessions, max_tokens, stops, journal } = engine_options;
    let (conversation, number) = shared.begin();
    let mut turn = Turn { shared, journal, conversation, number, waiting: None };
    let mut next = orders.recv().ok();
    while let Some(order) = next.take() {
        match order {
            Order::Free(wish) => _ = shared.gate.grant(wish),
            Order::Keep => {}
            Order::Replace(conversation, number) => {
                sessions.forget();
                turn.replace(conversation, number);
            }
            Order::Answer(asked) if shared.gate.cancelled_outside(&asked.cancelled) => turn.cancelled(asked),
            Order::Answer(asked) => {
                turn.waiting = Some((Arc::clone(&asked.listener), Busy::new()));
                let mut first = Some(asked);
                let entered = catch_unwind(AssertUnwindSafe(|| {
                    sessions.with_session(&mut |model, pool| {
                        let (conversation, stops) = (turn.conversation.clone(), stops.clone());
                        let mut session =
                            ChatSession { model, conversation, max_tokens: Some(max_tokens), stops };
                        next = first.take().and_then(|asked| turn.session(&mut session, pool, asked, orders));
                    })
                }));
                let entered =
                    entered.unwrap_or_else(|_| Err(ApiError::other("the worker failed: report this")));
                if first.is_some_and(|asked| asked.waits()) {
                    let _ = turn.note(Journal::dropped);
                }
                // Whoever waits for an answer hears that there is none; the next message begins with a new session.
                if let (Err(error), Some(waiting)) = (entered, turn.waiting.take()) {
                    notify(|| waiting.0.on_error(error));
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
        session: &mut ChatSession<&mut dyn ChatModel>,
        pool: &SpinPool,
        first: Asked,
        orders: &Receiver<Order>,
    ) -> Option<Order> {
        let mut next = Order::Answer(first);
        loop {
            match next {
                Order::Answer(asked) => {
                    if let Some(left) = self.answer(session, pool, asked) {
                        session.model.save_cache();
                        self.shared.gate.left();
                        return Some(Order::Answer(left));
                    }
                }
                Order::Replace(conversation, number) => {
                    session.model.clear_cache();
                    session.conversation.clone_from(&conversation);
                    self.replace(conversation, number);
                }
                Order::Free(wish) if self.shared.gate.grant(wish) => {
                    session.model.save_cache();
                    return orders.try_recv().ok();
                }
                Order::Free(_) => {}
                // Behind an answer the pause may be over: then nobody is about to end the process.
                Order::Keep if self.shared.gate.is_paused() => session.model.save_cache(),
                Order::Keep => {}
            }
            next = orders.recv().ok()?;
        }
    }

    /// Writes something to the journal, if there is one.
    fn note(&self, write: impl FnOnce(&Journal) -> Result<(), ApiError>) -> Result<(), ApiError> {
        self.journal.as_ref().map_or(Ok(()), write)
    }

    /// Ends an answer that was cancelled without a session; what was shown of it is kept.
    fn cancelled(&mut self, asked: Asked) {
        let waits = asked.waits();
        let Asked { busy: _busy, text, noted, begun, listener, .. } = asked;
        let mut reply = Reply::default();
        let shown = begun.filter(|begun| !begun.shown.is_empty());
        let remembered = shown.is_some();
        if waits {
            let _ = self.note(Journal::dropped);
        } else if let Some(begun) = shown {
            reply = Reply { text: begun.shown.clone(), tokens: begun.said.len() as u32, ..reply };
            let mut conversation = self.conversation.clone();
            if text.is_none() {
                conversation.turns.pop();
            }
            conversation.turns.push(Said { user: begun.user, answer: begun.shown });
            self.keep(&conversation, None);
            let _ = self.note(|journal| journal.end(remembered));
        } else if noted.is_ok() {
            let _ = self.note(|journal| journal.end(remembered));
        }
        self.waiting = None;
        notify(|| listener.on_end(reply));
    }

    /// Another conversation from now on.
    fn replace(&mut self, conversation: Conversation, number: u64) {
        // A journal that cannot be written now is before the next line, and says so with the next message.
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

    /// The message to be answered, as the journal has it from here on; the turn whose place its answer takes.
    fn begin(
        &self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        asked: &mut Asked,
    ) -> (Result<Begun, ApiError>, Option<Said>) {
        let again = if asked.text.is_none() { session.pop_turn() } else { None };
        if let Some(begun) = asked.begun.take() {
            return (Ok(begun), again);
        }
        let noted = std::mem::replace(&mut asked.noted, Ok(()));
        let begun = match (&asked.text, &again) {
            (Some(text), _) => noted.and_then(|()| self.note(Journal::answer)).map(|()| text.clone()),
            (None, Some(last)) => self.note(Journal::again).map(|()| last.user.clone()),
            (None, None) => Err(ApiError::other("there is no message to answer again")),
        };
        // All the memory that pieces take.
        let most = session.max_tokens.unwrap_or_default().min(session.model.context()) * TOKEN_BYTES;
        let begun = begun.map(|user| Begun { user, shown: String::with_capacity(most), ..Begun::default() });
        (begun, again)
    }

    /// Answers and tells the listener, which hears nothing that is not in the journal. What is returned is to go on in
    /// another session, because the memory of this one is wanted back while work waits.
    fn answer(
        &mut self,
        session: &mut ChatSession<&mut dyn ChatModel>,
        pool: &SpinPool,
        mut asked: Asked,
    ) -> Option<Asked> {
        let listener = Arc::clone(&asked.listener);
        let cancelled = Arc::clone(&asked.cancelled);
        self.waiting = Some((Arc::clone(&listener), Busy::new()));
        let (begun, again) = self.begin(session, &mut asked);
        let mut begun = match begun {
            Ok(begun) => begun,
            Err(error) => {
                session.conversation.turns.extend(again);
                self.waiting = None;
                notify(|| listener.on_error(error));
                return None;
            }
        };
        let before = session.conversation.turns.len();
        let passage = Passage::new(&self.shared.gate, pool, &cancelled);
        let start = Instant::now();
        let mut broken = None;
        let Begun { user, said, shown, forgotten, .. } = &mut begun;
        let conversation = std::mem::take(&mut session.conversation);
        let mut gated = ChatSession {
            model: Gated { model: &mut *session.model, passage: &passage },
            conversation,
            max_tokens: session.max_tokens,
            stops: std::mem::take(&mut session.stops),
        };
        let answered = gated.continue_answer(user, said, &cancelled, &mut |event| {
            passage.pass();
            let told = match event {
                // Nothing is shown any more, though the last token may have more to it.
                ChatEvent::Text(_) if broken.is_some() => false,
                ChatEvent::Text(text) => match self.note(|journal| journal.piece(text)) {
                    Ok(()) => {
                        shown.push_str(text);
                        notify(|| listener.on_piece(text.to_owned()))
                    }
                    Err(error) => {
                        broken = Some(error);
                        false
                    }
                },
                ChatEvent::Dropped { turns } => {
                    *forgotten += turns;
                    true
                }
                ChatEvent::Prefill { done, of } => notify(|| listener.on_progress(done as u32, of as u32)),
            };
            if !told {
                // The answer ends as if it had been cancelled: what was shown is remembered.
                cancelled.store(true, Ordering::Relaxed);
            }
            Ok::<(), ApiError>(())
        });
        (session.conversation, session.stops) = (gated.conversation, gated.stops);
        if passage.evicted.get() && answered.is_err() {
            session.conversation.turns.extend(again);
            let [reading, writing] = passage.waited;
            begun.spent += start.elapsed().saturating_sub(reading.get() + writing.get());
            return Some(Asked { begun: Some(begun), ..asked });
        }
        let mut remembered = answered.as_ref().is_ok_and(|answer| answer.remembered);
        if broken.is_some() && remembered {
            // As it is in the journal.
            remembered = !begun.shown.is_empty();
            match session.conversation.turns.last_mut() {
                Some(last) if remembered => last.answer.clone_from(&begun.shown),
                _ => drop(session.pop_turn()),
            }
        }
        let gone = (before + usize::from(remembered)).saturating_sub(session.conversation.turns.len());
        let ended = self.note(|journal| journal.end(remembered).and_then(|()| journal.forget(gone)));
        // Not answered: the turn stays as it was.
        session.conversation.turns.extend(again.filter(|_| !remembered));
        let reply = answered.map(|answer| {
            let [reading, writing] = passage.waited.each_ref().map(|waited| waited.get().as_secs_f64());
            let reply = Reply::new(&answer);
            let text = session.conversation.turns.last().filter(|_| remembered);
            Reply {
                text: text.map(|turn| turn.answer.clone()).unwrap_or_default(),
                forgotten_turns: begun.forgotten as u32,
                prompt_seconds: (reply.prompt_seconds - reading).max(0.0),
                seconds: (reply.seconds + begun.spent.as_secs_f64() - writing).max(0.0),
                ..reply
            }
        });
        self.keep(&session.conversation, reply.as_ref().ok().map(Stats::new));
        self.waiting = None;
        let reply = match broken {
            Some(error) => Err(error),
            None => reply.and_then(|reply| ended.map(|()| reply)),
        };
        // A listener that fails at the end has nothing left to stop.
        notify(|| match reply {
            Ok(reply) => listener.on_end(reply),
            Err(error) => listener.on_error(error),
        });
        // The listener is let go before `asked`, with which the process may be idle.
        drop(listener);
        drop(asked);
        None
    }
}

/// Bytes that a token of an answer has, with some to spare.
const TOKEN_BYTES: usize = 8;

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

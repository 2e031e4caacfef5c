//! The thread that owns a chat's session: orders in, answers out.

use crate::journal::Journal;
use crate::listener::{Listener, Reply};
use crate::{ApiError, Model, Stats};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use thimble_host::Pool;
use thimble_host::chat::{Conversation, Dialogue, Event, ModelVoice, Voice};
use thimble_runtime::sampler::{Sampler, Sampling};

/// Something to do.
pub(crate) enum Order {
    /// Answer a message.
    Send { text: String, listener: Arc<dyn Listener>, cancelled: Arc<AtomicBool> },
    /// Answer the last message once more.
    Retry { listener: Arc<dyn Listener>, cancelled: Arc<AtomicBool> },
    /// Go on with another conversation.
    Replace(Conversation),
    /// Give the session's memory back.
    Free,
}

/// What a chat and its thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What was said, as far as it is complete.
    pub(crate) conversation: Mutex<Conversation>,
    /// Of the last answer.
    pub(crate) stats: Mutex<Stats>,
    /// Threads that may work.
    pub(crate) threads: AtomicUsize,
    /// Whether work waits.
    paused: Mutex<bool>,
    resumed: Condvar,
}

/// A lock whose holder cannot have left anything half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(conversation: Conversation, threads: usize) -> Shared {
        Shared {
            conversation: Mutex::new(conversation),
            stats: Mutex::default(),
            threads: AtomicUsize::new(threads),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
        }
    }

    /// Lets the thread wait, or go on.
    pub(crate) fn pause(&self, paused: bool) {
        *lock(&self.paused) = paused;
        self.resumed.notify_all();
    }

    /// Returns when work may go on. Who cancels resumes too.
    fn wait(&self, cancelled: &AtomicBool) {
        let mut paused = lock(&self.paused);
        while *paused && !cancelled.load(Ordering::Relaxed) {
            paused = self.resumed.wait(paused).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes a thread that waits, to look at what has changed.
    pub(crate) fn nudge(&self) {
        drop(lock(&self.paused));
        self.resumed.notify_all();
    }
}

/// How a chat talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
}

/// Works on orders until no one can give any more.
pub(crate) fn work(
    model: &Model,
    manner: Manner,
    shared: &Shared,
    mut journal: Option<Journal>,
    orders: &Receiver<Order>,
) {
    let mut turn = Turn { shared, journal: &mut journal };
    let mut next = orders.recv().ok();
    // Memory is taken with the first message, and again after it was given back.
    while let Some(order) = next.take() {
        let after = match order {
            Order::Free => None,
            Order::Replace(conversation) => {
                turn.replace(&conversation);
                None
            }
            Order::Send { text, listener, cancelled } => {
                awake(model, manner, &mut turn, Answering { text: Some(text), listener, cancelled }, orders)
            }
            Order::Retry { listener, cancelled } => {
                awake(model, manner, &mut turn, Answering { text: None, listener, cancelled }, orders)
            }
        };
        next = after.or_else(|| orders.recv().ok());
    }
}

/// A message to be answered, or the last one once more.
struct Answering {
    text: Option<String>,
    listener: Arc<dyn Listener>,
    cancelled: Arc<AtomicBool>,
}

/// Answers with a session in memory until that is to be given back; the order after that, if it is at hand.
fn awake(
    model: &Model,
    manner: Manner,
    turn: &mut Turn<'_>,
    first: Answering,
    orders: &Receiver<Order>,
) -> Option<Order> {
    let listener = Arc::clone(&first.listener);
    session(model, manner, turn, first, orders).unwrap_or_else(|error| {
        // Nobody is left to be told that the listener failed.
        let _ = listener.on_error(error);
        None
    })
}

fn session(
    model: &Model,
    manner: Manner,
    turn: &mut Turn<'_>,
    first: Answering,
    orders: &Receiver<Order>,
) -> Result<Option<Order>, ApiError> {
    let pool = Pool::new(model.plan.threads()).map_err(ApiError::other)?;
    let mut memory = model.plan.allocate()?;
    let file = model.mapped.file().map_err(|error| ApiError::format(&model.path, &error))?;
    let generator = thimble_host::generator(&file, &model.plan, &mut memory, &pool)?;
    let sampler = Sampler::new(manner.sampling).map_err(ApiError::other)?;
    let voice = ModelVoice { file, generator, sampler };
    let conversation = lock(&turn.shared.conversation).clone();
    let mut dialogue = Dialogue { voice, conversation, max_tokens: Some(manner.max_tokens) };
    turn.answer_or_retry(&mut dialogue, &pool, first);
    loop {
        match orders.recv() {
            Err(_) => return Ok(None),
            Ok(Order::Send { text, listener, cancelled }) => {
                turn.answer_or_retry(
                    &mut dialogue,
                    &pool,
                    Answering { text: Some(text), listener, cancelled },
                );
            }
            Ok(Order::Retry { listener, cancelled }) => {
                turn.answer_or_retry(&mut dialogue, &pool, Answering { text: None, listener, cancelled });
            }
            Ok(Order::Replace(conversation)) => {
                turn.replace(&conversation);
                dialogue.conversation = conversation;
            }
            Ok(Order::Free) => return Ok(orders.try_recv().ok()),
        }
    }
}

/// What an answer changes besides the dialogue.
struct Turn<'a> {
    shared: &'a Shared,
    journal: &'a mut Option<Journal>,
}

impl Turn<'_> {
    fn remember(&self, conversation: &Conversation) {
        lock(&self.shared.conversation).clone_from(conversation);
    }

    /// Writes something to the journal, if there is one.
    fn note(&mut self, write: impl FnOnce(&mut Journal) -> Result<(), ApiError>) -> Result<(), ApiError> {
        self.journal.as_mut().map_or(Ok(()), write)
    }

    /// Another conversation from now on. A journal that cannot be written tells so with the next message.
    fn replace(&mut self, conversation: &Conversation) {
        let _ = self.note(|journal| journal.replace(conversation));
        self.remember(conversation);
    }

    fn answer_or_retry<V: Voice>(&mut self, dialogue: &mut Dialogue<V>, pool: &Pool, order: Answering) {
        let Answering { text, listener, cancelled } = order;
        match text {
            Some(text) => {
                self.answer((dialogue, pool), &text, &*listener, &cancelled);
            }
            None => self.retry((dialogue, pool), &*listener, &cancelled),
        }
    }

    fn retry<V: Voice>(
        &mut self,
        (dialogue, pool): (&mut Dialogue<V>, &Pool),
        listener: &dyn Listener,
        cancelled: &AtomicBool,
    ) {
        let Some(turn) = dialogue.take_last() else {
            let message = "there is no message to answer again".to_owned();
            let _ = listener.on_error(ApiError::Other { message });
            return;
        };
        if let Err(error) = self.note(Journal::take_back) {
            dialogue.conversation.turns.push(turn);
            let _ = listener.on_error(error);
            return;
        }
        if !self.answer((&mut *dialogue, pool), &turn.user, listener, cancelled) {
            // Not answered: the turn stays as it was.
            dialogue.conversation.turns.push(turn);
            let conversation = &dialogue.conversation;
            let _ = self.note(|journal| journal.replace(conversation));
            self.remember(&dialogue.conversation);
        }
    }

    /// Answers and tells the listener, which hears nothing that is not in the journal; whether the turn is remembered.
    fn answer<V: Voice>(
        &mut self,
        (dialogue, pool): (&mut Dialogue<V>, &Pool),
        user: &str,
        listener: &dyn Listener,
        cancelled: &AtomicBool,
    ) -> bool {
        let mut reply = Reply::default();
        let before = dialogue.conversation.turns.len();
        let noted = self.note(|journal| journal.user(user));
        let answered = noted.and_then(|()| {
            dialogue.answer(user, cancelled, &mut |event| {
                self.shared.wait(cancelled);
                pool.limit(self.shared.threads.load(Ordering::Relaxed));
                let told = match event {
                    Event::Text(text) => {
                        self.note(|journal| journal.piece(text))?;
                        reply.text.push_str(text);
                        listener.on_piece(text.to_owned())
                    }
                    Event::Forgot { turns } => {
                        reply.forgotten_turns += turns as u32;
                        Ok(())
                    }
                    Event::Reading { done, of } => listener.on_progress(done as u32, of as u32),
                };
                if told.is_err() {
                    // The answer ends as if it had been cancelled: what was shown is remembered.
                    cancelled.store(true, Ordering::Relaxed);
                }
                Ok::<(), ApiError>(())
            })
        });
        let remembered = answered.as_ref().is_ok_and(|answer| answer.remembered);
        let forgotten = (before + usize::from(remembered)).saturating_sub(dialogue.conversation.turns.len());
        let ended = self.note(|journal| journal.end(remembered).and_then(|()| journal.forget(forgotten)));
        self.remember(&dialogue.conversation);
        // A listener that fails at the end has nothing left to stop.
        let _ = match (answered, ended) {
            (Ok(answer), Ok(())) => {
                reply.fill(&answer);
                *lock(&self.shared.stats) = Stats::new(&reply);
                listener.on_end(reply)
            }
            (Err(error), _) | (_, Err(error)) => listener.on_error(error),
        };
        remembered
    }
}

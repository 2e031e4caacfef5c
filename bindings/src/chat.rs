//! A conversation with a model.

use crate::engine::{Manner, Order, Shared, lock, work};
use crate::journal::Journal;
use crate::listener::{Listener, Reply};
use crate::{ApiError, Model};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use thimble_host::chat::{Conversation, Role, Saved};

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Sampling {
    /// 0 always takes the likeliest token; higher is more varied.
    #[uniffi(default = 0.2)]
    pub temperature: f32,
    /// Only so many of the likeliest tokens.
    #[uniffi(default = None)]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together have this probability.
    #[uniffi(default = Some(0.9))]
    pub top_p: Option<f32>,
    /// Above 1 tokens that were said before become less likely.
    #[uniffi(default = 1.1)]
    pub repetition_penalty: f32,
    /// The same seed gives the same answers; unless given, another one each time.
    #[uniffi(default = None)]
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 0.2, top_k: None, top_p: Some(0.9), repetition_penalty: 1.1, seed: None }
    }
}

impl Sampling {
    pub(crate) fn runtime(&self) -> thimble_runtime::sampler::Sampling {
        thimble_runtime::sampler::Sampling {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| k as usize).filter(|&k| k > 0),
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.unwrap_or_else(fresh_seed),
            ..thimble_runtime::sampler::Sampling::default()
        }
    }
}

/// A seed from the randomness that the standard library gives every hash map.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// How to begin a chat.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct ChatOptions {
    /// Instructions in front of the conversation.
    #[uniffi(default = None)]
    pub system: Option<String>,
    /// How tokens are chosen; as the model's makers recommend unless given.
    #[uniffi(default = None)]
    pub sampling: Option<Sampling>,
    /// Longest answer in tokens; 1,024 unless given.
    #[uniffi(default = None)]
    pub max_tokens: Option<u32>,
    /// A file that has everything on disk before it is shown. Where it exists, the chat goes on from it.
    #[uniffi(default = None)]
    pub journal: Option<String>,
}

/// A message of the conversation.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Message {
    /// Whether the person said it, and not the model.
    pub from_user: bool,
    /// What was said.
    pub text: String,
}

/// Figures of the last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, uniffi::Record)]
pub struct Stats {
    /// Prompt tokens computed.
    pub prompt_tokens: u32,
    /// Prompt tokens per second.
    pub prompt_speed: f64,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Tokens per second.
    pub speed: f64,
}

impl Stats {
    pub(crate) fn new(reply: &Reply) -> Stats {
        let speed = |tokens: u32, seconds: f64| if seconds > 0.0 { f64::from(tokens) / seconds } else { 0.0 };
        Stats {
            prompt_tokens: reply.prompt_tokens,
            prompt_speed: speed(reply.prompt_tokens, reply.prompt_seconds),
            tokens: reply.tokens,
            speed: speed(reply.tokens, reply.seconds),
        }
    }
}

/// A conversation with a model, on a thread of its own.
#[derive(Debug, uniffi::Object)]
pub struct Chat {
    name: String,
    shared: Arc<Shared>,
    /// Held while an order is given, so that orders and their flags have one order.
    orders: Mutex<Sender<Order>>,
    /// Flags of answers that are not complete.
    flags: Mutex<Vec<Weak<AtomicBool>>>,
    threads: usize,
}

/// Longest answer unless given: small models may never come to an end.
const MOST_TOKENS: u32 = 1024;

#[uniffi::export]
impl Chat {
    /// Begins a conversation, or goes on with the one in the journal. Memory is taken with the first message.
    ///
    /// # Errors
    /// The journal is none, or cannot be written.
    #[uniffi::constructor]
    pub fn new(model: Arc<Model>, options: ChatOptions) -> Result<Arc<Chat>, ApiError> {
        let ChatOptions { system, sampling, max_tokens, journal } = options;
        let (journal, conversation) = match &journal {
            Some(path) => {
                let (journal, conversation) = Journal::open(path, system)?;
                (Some(journal), conversation)
            }
            None => (None, Conversation { system, turns: Vec::new() }),
        };
        let manner = Manner {
            sampling: sampling.unwrap_or_default().runtime(),
            max_tokens: max_tokens.unwrap_or(MOST_TOKENS) as usize,
        };
        let threads = model.plan.threads();
        let name = model.info()?.name;
        let shared = Arc::new(Shared::new(conversation, threads));
        let (orders, receiver) = channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("thimble-chat".to_owned());
        let spawned = thread.spawn(move || work(&model, manner, &theirs, journal, &receiver));
        spawned.map_err(ApiError::other)?;
        Ok(Arc::new(Chat { name, shared, orders: Mutex::new(orders), flags: Mutex::default(), threads }))
    }

    /// Answers a message: returns at once, and `listener` hears the answer. Messages are answered one after the other.
    pub fn send(&self, text: String, listener: Arc<dyn Listener>) {
        self.order(|cancelled| Order::Send { text, listener, cancelled });
    }

    /// Answers the last message once more.
    pub fn retry(&self, listener: Arc<dyn Listener>) {
        self.order(|cancelled| Order::Retry { listener, cancelled });
    }

    /// Stops the answer at hand and those that wait; each listener hears its end.
    pub fn cancel(&self) {
        for flag in lock(&self.flags).drain(..).filter_map(|flag| flag.upgrade()) {
            flag.store(true, Ordering::Relaxed);
        }
        self.shared.nudge();
    }

    /// What was said so far, oldest first; an answer that is being made is not in it yet.
    pub fn history(&self) -> Vec<Message> {
        let conversation = lock(&self.shared.conversation);
        let messages = conversation.messages(0, "");
        let said = messages.iter().take(messages.len() - 1).filter(|(role, _)| *role != Role::System);
        said.map(|&(role, text)| Message { from_user: role == Role::User, text: text.to_owned() }).collect()
    }

    /// Figures of the last answer.
    pub fn stats(&self) -> Stats {
        *lock(&self.shared.stats)
    }

    /// Writes the conversation to a file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: String) -> Result<(), ApiError> {
        let conversation = lock(&self.shared.conversation).clone();
        Ok(Saved::new(&self.name, &conversation).write(Path::new(&path))?)
    }

    /// Goes on with a conversation from a file that [`Chat::save`] or `thimble chat` wrote.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], or the file is no conversation.
    pub fn restore(&self, path: String) -> Result<(), ApiError> {
        let conversation = Saved::read(Path::new(&path))?;
        self.cancel();
        lock(&self.shared.conversation).clone_from(&conversation);
        self.give(Order::Replace(conversation));
        Ok(())
    }

    /// Begins anew, with the same instructions.
    pub fn clear(&self) {
        self.cancel();
        let system = lock(&self.shared.conversation).system.clone();
        let empty = Conversation { system, turns: Vec::new() };
        lock(&self.shared.conversation).clone_from(&empty);
        self.give(Order::Replace(empty));
    }

    /// Lets work wait, for an app that goes to the background; [`Chat::resume`] lets it go on where it was.
    pub fn pause(&self) {
        self.shared.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shared.pause(false);
    }

    /// Works with half the threads while the device is hot or its battery low, and with all again afterwards. Answers do
    /// not depend on it.
    pub fn save_power(&self, save: bool) {
        let threads = if save { self.threads.div_ceil(2) } else { self.threads };
        self.shared.threads.store(threads, Ordering::Relaxed);
    }

    /// Gives the memory of the session back once the answer at hand is complete; the next message takes it again and
    /// computes the conversation anew.
    pub fn free_memory(&self) {
        self.give(Order::Free);
    }
}

impl Chat {
    /// Gives an order that can be cancelled.
    fn order(&self, make: impl FnOnce(Arc<AtomicBool>) -> Order) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut flags = lock(&self.flags);
        flags.retain(|flag| flag.strong_count() > 0);
        flags.push(Arc::downgrade(&cancelled));
        // While the flags are held, so that `cancel` finds the flag of every order that was given.
        self.give(make(cancelled));
    }

    fn give(&self, order: Order) {
        // The thread ends only after the last sender is gone.
        let _ = lock(&self.orders).send(order);
    }
}

impl Drop for Chat {
    /// Ends the thread as soon as it can, and does not wait for it.
    fn drop(&mut self) {
        self.cancel();
        self.shared.pause(false);
    }
}

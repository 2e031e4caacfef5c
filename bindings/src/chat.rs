//! A conversation with a model.

use crate::journal::{Held, Journal};
use crate::listener::{Listener, Reply};
use crate::sessions::ModelSessions;
use crate::worker::{Answer, Worker, WorkerOptions};
use crate::{ApiError, Model, ModelInfo};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use thimble_chat::RecommendedSampling;
use thimble_chat::{ChatError, Conversation, SavedConversation};
use thimble_host::KvFile;
use thimble_host::PromptFormat;
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler;

/// How tokens are chosen. What is not given is what the model's makers recommend, or else as `thimble chat` does it:
/// temperature 0.2, `top_p` 0.9, `repetition_penalty` 1.05, and for a text that is continued temperature 0.7, `top_p` 0.95 and
/// no penalty. For the likeliest token always: temperature 0 and `repetition_penalty` 1.
#[derive(Clone, Debug, Default, PartialEq, uniffi::Record)]
pub struct Sampling {
    /// 0 always takes the likeliest token; higher is more varied.
    #[uniffi(default = None)]
    pub temperature: Option<f32>,
    /// Only so many of the likeliest tokens; 0 is all of them.
    #[uniffi(default = None)]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together have this probability; 1 is all of them.
    #[uniffi(default = None)]
    pub top_p: Option<f32>,
    /// Above 1 tokens that were said before become less likely; 1 does nothing.
    #[uniffi(default = None)]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same answers; unless given, another one each time.
    #[uniffi(default = None)]
    pub seed: Option<u64>,
}

impl Sampling {
    /// These settings over what `file` recommends, over the defaults of `format`.
    pub(crate) fn over(&self, file: &ModelFile<'_>, format: PromptFormat) -> sampler::Sampling {
        let defaults = match format {
            PromptFormat::Chat => sampler::Sampling::ANSWER,
            PromptFormat::Text => sampler::Sampling::CONTINUATION,
        };
        let asked = RecommendedSampling {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| k as usize),
            top_p: self.top_p,
            min_p: None,
            repetition_penalty: self.repetition_penalty,
        };
        let seed = self.seed.unwrap_or_else(fresh_seed);
        sampler::Sampling { seed, ..asked.over(RecommendedSampling::of(file).over(defaults)) }
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
    /// Instructions in front of the conversation. A journal that is there has its own, which stay.
    #[uniffi(default = None)]
    pub system: Option<String>,
    /// How tokens are chosen; as [`Sampling`] says unless given.
    #[uniffi(default = None)]
    pub sampling: Option<Sampling>,
    /// Longest answer in tokens; 1,024 unless given.
    #[uniffi(default = None)]
    pub max_tokens: Option<u32>,
    /// A file that has everything on disk before it is shown. Where it exists, the chat goes on from it.
    #[uniffi(default = None)]
    pub journal: Option<String>,
    /// A file for the keys and values of the conversation, tens of kilobytes a token: written by `pause` and
    /// `free_memory`, and read instead of computing them when the chat goes on, also in another process. It may be deleted at
    /// any time, and says as much of the conversation as the journal does: best in the app's own folder for caches.
    #[uniffi(default = None)]
    pub kv_file: Option<String>,
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
    worker: Worker,
    /// From the journal, until it is sent again.
    unanswered: Mutex<Option<String>>,
}

/// Longest answer unless given: small models may never come to an end.
pub(crate) const MOST_TOKENS: u32 = 1024;

#[uniffi::export]
impl Chat {
    /// Begins a conversation, or goes on with the one in the journal. Memory is taken with the first message.
    ///
    /// # Errors
    /// The journal is none, or cannot be written, or another chat has it open; options that make no sense.
    #[uniffi::constructor]
    pub fn new(model: Arc<Model>, options: ChatOptions) -> Result<Arc<Chat>, ApiError> {
        let ChatOptions { system, sampling, max_tokens, journal, kv_file } = options;
        let sampling = sampling.unwrap_or_default();
        let ModelInfo { name, answers_messages, .. } = model.info()?;
        if !answers_messages {
            return Err(ChatError::NoTemplate.into());
        }
        let threads = model.plan.threads();
        let kept = kv_file.map(|path| KvFile::new(Path::new(&path)));
        let sessions = ModelSessions::new(model, sampling, PromptFormat::Chat, kept)?;
        let (journal, held) = match &journal {
            Some(path) => {
                let (journal, held) = Journal::open(path, system)?;
                (Some(journal), held)
            }
            None => {
                (None, Held { conversation: Conversation { system, turns: Vec::new() }, unanswered: None })
            }
        };
        let engine_options = WorkerOptions {
            sessions: Box::new(sessions),
            max_tokens: max_tokens.unwrap_or(MOST_TOKENS) as usize,
            stops: Vec::new(),
            journal,
        };
        let worker = Worker::start("thimble-chat", held.conversation, threads, engine_options)?;
        Ok(Arc::new(Chat { name, worker, unanswered: Mutex::new(held.unanswered) }))
    }

    /// Answers a message: returns at once, and `listener` hears the answer. Messages are answered one after the other.
    /// What is returned stops this answer alone; it need not be kept.
    pub fn send(&self, text: String, listener: Arc<dyn Listener>) -> Arc<Answer> {
        self.forget_unanswered();
        Arc::new(self.worker.ask(Some(text), listener))
    }

    /// Answers the last message once more; the old answer stays until something of the new one is shown. Where there is
    /// an unanswered message, that is the last one.
    pub fn retry(&self, listener: Arc<dyn Listener>) -> Arc<Answer> {
        let unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take();
        Arc::new(self.worker.ask(unanswered, listener))
    }

    /// Stops the answer at hand and those that wait; each listener hears its end.
    pub fn cancel(&self) {
        self.worker.cancel();
    }

    /// What was said so far, oldest first; an answer that is being made is not in it yet.
    pub fn history(&self) -> Vec<Message> {
        let conversation = self.worker.conversation();
        let messages = conversation.turns.into_iter().flat_map(|turn| {
            [Message { from_user: true, text: turn.user }, Message { from_user: false, text: turn.answer }]
        });
        messages.collect()
    }

    /// The last message in the journal, if the app ended before anything of its answer was shown: a draft to send again.
    pub fn unanswered(&self) -> Option<String> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Figures of the last answer.
    pub fn stats(&self) -> Stats {
        self.worker.stats()
    }

    /// Writes the conversation to a file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: String) -> Result<(), ApiError> {
        let conversation = self.worker.conversation();
        Ok(SavedConversation::new(&self.name, &conversation).write(Path::new(&path))?)
    }

    /// Stops all answers and goes on with a conversation from a file that [`Chat::save`] or `thimble chat` wrote.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], or the file is no conversation; then nothing changes.
    pub fn restore(&self, path: String) -> Result<(), ApiError> {
        let conversation = SavedConversation::read(Path::new(&path))?;
        self.forget_unanswered();
        self.worker.replace(|_| conversation);
        Ok(())
    }

    /// Stops all answers and begins anew, with the same instructions.
    pub fn clear(&self) {
        self.forget_unanswered();
        self.worker.replace(|before| Conversation { system: before.system.clone(), turns: Vec::new() });
    }

    /// Lets work wait, for an app that goes to the background; [`Chat::resume`] lets it go on where it was.
    pub fn pause(&self) {
        self.worker.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.worker.pause(false);
    }

    /// Works with half the threads while the device is hot or its battery low, and with all again afterwards. Answers do
    /// not depend on it.
    pub fn save_power(&self, save: bool) {
        self.worker.save_power(save);
    }

    /// Gives the memory of the session back once the answer at hand is complete; at once after [`Chat::cancel`], and in a
    /// pause, behind which the answer goes on. What comes next takes it again and computes the conversation anew, or reads
    /// it from the `kv_file`.
    pub fn free_memory(&self) {
        self.worker.free();
    }
}

impl Chat {
    fn forget_unanswered(&self) {
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

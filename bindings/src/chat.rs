//! A conversation with a model.

use crate::journal::Journal;
use crate::listener::Listener;
use crate::message::{self, Message};
use crate::options::check_stops;
use crate::sessions::ModelSessions;
use crate::worker::{AnswerHandle, Ask, Worker, WorkerOptions};
use crate::{
    AdapterWeight, AnswerOptions, ApiError, Model, ModelInfo, Sampling, Stats, ToolDefinition, ToolResult,
};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use thimble_chat::{ChatError, Conversation, SavedConversation};
use thimble_host::{KvFile, PromptFormat};

/// How to begin a chat.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct ChatOptions {
    /// Instructions before the conversation. An existing journal keeps its own.
    #[uniffi(default = None)]
    pub system: Option<String>,
    /// How tokens are chosen; [`Sampling`]'s defaults unless set.
    #[uniffi(default = None)]
    pub sampling: Option<Sampling>,
    /// Longest answer in tokens; 1,024 unless set.
    #[uniffi(default = None)]
    pub max_tokens: Option<u32>,
    /// A file to which everything is written before it is shown. If it exists, the chat continues from it.
    #[uniffi(default = None)]
    pub journal: Option<String>,
    /// A file for the keys and values of the conversation, tens of kilobytes a token. `pause` and `free_memory` write it;
    /// when the chat goes on, also in another process, it is read instead of computing them. It may be deleted at any time,
    /// and reveals as much of the conversation as the journal does: put it in the app's own cache folder.
    #[uniffi(default = None)]
    pub kv_file: Option<String>,
    /// Whether the model thinks before it answers, where [`ModelInfo::has_thinking`]; the model's default unless set.
    #[uniffi(default = None)]
    pub thinking: Option<bool>,
    /// What was said before, of the user and the model in turn, the user first. A last message of the user, or one with the
    /// results of tools, is unanswered: [`Chat::retry`] answers it. An existing journal keeps its own.
    #[uniffi(default = [])]
    pub messages: Vec<Message>,
    /// Texts that end an answer, which then lacks them. Reasoning counts.
    #[uniffi(default = [])]
    pub stop: Vec<String>,
    /// The tools that the model may call. An answer of a given form calls none.
    #[uniffi(default = [])]
    pub tools: Vec<ToolDefinition>,
    /// The adapters that the model runs with, of [`Model::open_adapter`]; at most 8.
    #[uniffi(default = [])]
    pub adapters: Vec<AdapterWeight>,
}

/// A conversation with a model, on a thread of its own.
#[derive(Debug, uniffi::Object)]
pub struct Chat {
    name: String,
    worker: Worker,
    /// From the journal or the app's messages, until it is sent again or replaced.
    unanswered: Mutex<Option<Ask>>,
}

/// Longest answer unless set: small models may never stop.
pub(crate) const MOST_TOKENS: u32 = 1024;

#[uniffi::export]
impl Chat {
    /// Begins a conversation, or continues the one in the journal. The first message takes memory.
    ///
    /// # Errors
    /// The file is no journal, cannot be written, or is open in another chat; the options are invalid.
    #[uniffi::constructor]
    pub fn new(model: Arc<Model>, options: ChatOptions) -> Result<Arc<Chat>, ApiError> {
        let ChatOptions {
            system,
            sampling,
            thinking,
            max_tokens,
            journal,
            kv_file,
            messages,
            stop,
            tools,
            adapters,
        } = options;
        check_stops(&stop)?;
        let tools = tools.into_iter().map(ToolDefinition::read).collect::<Result<Vec<_>, _>>()?;
        let (begun, mut results) = message::begin(system, messages)?;
        let sampling = sampling.unwrap_or_default();
        let ModelInfo { name, answers_messages, .. } = model.info()?;
        if !answers_messages {
            return Err(ChatError::NoTemplate.into());
        }
        let threads = model.plan.threads();
        let kept = kv_file.map(|path| KvFile::new(Path::new(&path)));
        let sessions = ModelSessions::new(model, sampling, PromptFormat::Chat, kept, adapters, tools)?;
        let (journal, held) = match &journal {
            Some(path) => {
                let begins = begun.conversation.clone();
                let (journal, held) = Journal::open(path, begun)?;
                if held.conversation != begins {
                    // An existing journal, in whose conversation no call waits for them.
                    results = None;
                }
                (Some(journal), held)
            }
            None => (None, begun),
        };
        let options = WorkerOptions {
            sessions: Box::new(sessions),
            thinking,
            max_tokens: max_tokens.unwrap_or(MOST_TOKENS) as usize,
            stops: stop,
            journal,
        };
        let worker = Worker::start("thimble-chat", held.conversation, threads, options)?;
        let unanswered = held.unanswered.map(Ask::Message).or(results.map(Ask::Results));
        Ok(Arc::new(Chat { name, worker, unanswered: Mutex::new(unanswered) }))
    }

    /// Answers a message. Returns at once; `listener` receives the answer. Messages are answered in order. The handle
    /// stops this answer only and need not be kept.
    #[uniffi::method(default(options = None))]
    pub fn send(
        &self,
        text: String,
        listener: Arc<dyn Listener>,
        options: Option<AnswerOptions>,
    ) -> Arc<AnswerHandle> {
        self.forget_unanswered();
        Arc::new(self.worker.ask(Ask::Message(text), options.unwrap_or_default(), listener))
    }

    /// Answers the last message again, which is the unanswered one if there is one. The old answer stays until part of the
    /// new one is shown.
    #[uniffi::method(default(options = None))]
    pub fn retry(&self, listener: Arc<dyn Listener>, options: Option<AnswerOptions>) -> Arc<AnswerHandle> {
        let unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take();
        Arc::new(self.worker.ask(unanswered.unwrap_or(Ask::Again), options.unwrap_or_default(), listener))
    }

    /// Continues after [`crate::Reply::tool_calls`] with what the tools returned: one result for each call, in any order. The
    /// answer may be calls again. Results that do not fit the calls are an error that the listener gets.
    #[uniffi::method(default(options = None))]
    pub fn send_tool_results(
        &self,
        results: Vec<ToolResult>,
        listener: Arc<dyn Listener>,
        options: Option<AnswerOptions>,
    ) -> Arc<AnswerHandle> {
        self.forget_unanswered();
        Arc::new(self.worker.ask(Ask::Results(results), options.unwrap_or_default(), listener))
    }

    /// Stops the current answer and those that wait; each listener gets an end.
    pub fn cancel(&self) {
        self.worker.cancel();
    }

    /// The messages so far, oldest first, without an unfinished answer.
    pub fn history(&self) -> Vec<Message> {
        message::messages(self.worker.conversation())
    }

    /// The last message, if it has no answer: that of [`ChatOptions::messages`], or that in the journal if the app ended before
    /// any of its answer was shown. [`Chat::retry`] answers it.
    pub fn unanswered(&self) -> Option<String> {
        match &*self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Ask::Message(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Figures of the last answer.
    pub fn stats(&self) -> Stats {
        self.worker.stats()
    }

    /// Writes the conversation to a file, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: String) -> Result<(), ApiError> {
        let conversation = self.worker.conversation();
        Ok(SavedConversation::new(&self.name, &conversation).write(Path::new(&path))?)
    }

    /// Stops all answers and continues a conversation from a file that [`Chat::save`] or `thimble chat` wrote.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], or the file is no conversation. Nothing changes then.
    pub fn restore(&self, path: String) -> Result<(), ApiError> {
        let conversation = SavedConversation::read(Path::new(&path))?;
        self.forget_unanswered();
        self.worker.replace(|_| conversation);
        Ok(())
    }

    /// Stops all answers and begins a new conversation with the same instructions.
    pub fn clear(&self) {
        self.forget_unanswered();
        self.worker.replace(|before| Conversation { system: before.system.clone(), turns: Vec::new() });
    }

    /// Pauses, for an app that goes to the background; [`Chat::resume`] continues where it was.
    pub fn pause(&self) {
        self.worker.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.worker.pause(false);
    }

    /// Works with half the threads while the device is hot or its battery low, or with all again. Answers do not depend
    /// on it.
    pub fn save_power(&self, save: bool) {
        self.worker.save_power(save);
    }

    /// Gives the session's memory back once the current answer is complete; at once after [`Chat::cancel`] and in a pause,
    /// after which the answer goes on. The next message takes memory again and recomputes the conversation, or reads it
    /// from the `kv_file`.
    pub fn free_memory(&self) {
        self.worker.free();
    }
}

impl Chat {
    fn forget_unanswered(&self) {
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

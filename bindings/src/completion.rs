//! Completions: a text that the model continues.

use crate::chat::MOST_TOKENS;
use crate::listener::Listener;
use crate::options::check_stops;
use crate::sessions::ModelSessions;
use crate::worker::{Ask, Worker, WorkerOptions};
use crate::{AdapterWeight, AnswerFormat, AnswerOptions, ApiError, Model, Sampling};
use std::sync::Arc;
use thimble_chat::Conversation;
use thimble_host::PromptFormat;

/// How to continue a text.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct CompletionOptions {
    /// The token limit; 1,024 unless set.
    #[uniffi(default = None)]
    pub max_tokens: Option<u32>,
    /// How tokens are chosen; [`Sampling`]'s defaults for a completion unless set.
    #[uniffi(default = None)]
    pub sampling: Option<Sampling>,
    /// Texts before which it ends.
    #[uniffi(default = [])]
    pub stop: Vec<String>,
    /// As [`AnswerOptions::log_probabilities`].
    #[uniffi(default = None)]
    pub log_probabilities: Option<u32>,
    /// As [`AnswerOptions::format`].
    #[uniffi(default = None)]
    pub format: Option<AnswerFormat>,
    /// The adapters that the model runs with, of [`Model::open_adapter`]; at most 8.
    #[uniffi(default = [])]
    pub adapters: Vec<AdapterWeight>,
}

/// A completion in progress, on a thread of its own. Dropping this object stops the work: keep it.
#[derive(Debug, uniffi::Object)]
pub struct Completion {
    worker: Worker,
}

#[uniffi::export]
impl Completion {
    /// Stops; the listener gets the end.
    pub fn cancel(&self) {
        self.worker.cancel();
    }

    /// Pauses, for an app that goes to the background; [`Completion::resume`] continues where it was.
    pub fn pause(&self) {
        self.worker.pause(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.worker.pause(false);
    }

    /// Works with half the threads while the device is hot or its battery low, or with all again.
    pub fn save_power(&self, save: bool) {
        self.worker.save_power(save);
    }
}

#[uniffi::export]
impl Model {
    /// Continues `prompt` as it is, without a chat template. Returns at once; `listener` receives the text. Special
    /// tokens that the prompt spells out are parsed. It takes as much memory as one chat.
    ///
    /// # Errors
    /// The options are invalid.
    pub fn complete(
        self: Arc<Self>,
        prompt: String,
        options: CompletionOptions,
        listener: Arc<dyn Listener>,
    ) -> Result<Arc<Completion>, ApiError> {
        let CompletionOptions { max_tokens, sampling, stop, log_probabilities, format, adapters } = options;
        check_stops(&stop)?;
        let sampling = sampling.unwrap_or_default();
        let threads = self.plan.threads();
        let options = WorkerOptions {
            sessions: Box::new(ModelSessions::new(
                self,
                sampling,
                PromptFormat::Text,
                None,
                adapters,
                Vec::new(),
            )?),
            thinking: None,
            max_tokens: max_tokens.unwrap_or(MOST_TOKENS) as usize,
            stops: stop,
            journal: None,
        };
        let worker = Worker::start("thimble-completion", Conversation::default(), threads, options)?;
        let asked = AnswerOptions { format, log_probabilities, ..AnswerOptions::default() };
        worker.ask(Ask::Message(prompt), asked, listener);
        Ok(Arc::new(Completion { worker }))
    }
}

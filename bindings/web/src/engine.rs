//! A model and its chats: what the worker drives, a slice of an answer at a time.

use crate::error::WebError;
use crate::memory::FileMemory;
use crate::model::{WebModel, kernels, sampler};
use crate::options::{ChatOptions, ModelOptions, read};
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use thimble_chat::{AnswerStats, ChatEvent, ChatSession, Conversation, End, Turn};
use thimble_runtime::Token;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// A model with its chats. They share one session: a chat that goes on after another computes its conversation again, but
/// for the beginning that both have in common.
#[wasm_bindgen]
pub struct WebEngine {
    session: ChatSession<WebModel>,
    chats: Vec<Chat>,
    /// The chat whose conversation is in `session`.
    current: Option<usize>,
    answer: Answer,
}

struct Chat {
    options: ChatOptions,
    conversation: Conversation,
}

/// The answer that is being made.
#[derive(Default)]
struct Answer {
    user: String,
    tokens: Vec<Token>,
    dropped: usize,
    milliseconds: f64,
}

/// A whole answer, as the package documents it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    finish: &'static str,
    forgotten_turns: usize,
    prompt_tokens: usize,
    prompt_seconds: f64,
    tokens: usize,
    seconds: f64,
    token_ids: Vec<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    context: usize,
    layers: usize,
    vocabulary: usize,
    kernels: &'a str,
    has_chat: bool,
}

#[wasm_bindgen]
impl WebEngine {
    /// Opens the model that was written to `file`. `options` is JSON: `context`, `exact`.
    ///
    /// # Errors
    /// `NotAModel`, `Damaged` (a checksum is wrong), `TooLarge`, or `Other` for options out of range.
    pub fn open(file: FileMemory, options: &str) -> Result<WebEngine, WebError> {
        let options: ModelOptions = read(options)?;
        let session = ChatSession {
            model: WebModel::open(file.leak(), &options)?,
            conversation: Conversation::default(),
            thinking: None,
            max_tokens: None,
            stops: Vec::new(),
            tools: None,
            constraint: None,
        };
        Ok(WebEngine { session, chats: Vec::new(), current: None, answer: Answer::default() })
    }

    /// The model as JSON: `context`, `layers`, `vocabulary`, `kernels`, `hasChat`.
    pub fn info(&self) -> Result<String, WebError> {
        let model = &self.session.model;
        let config = model.file.config();
        let info = Info {
            context: model.session.context(),
            layers: config.layers,
            vocabulary: config.vocab,
            kernels: kernels().name(),
            has_chat: model.file.chat().is_some(),
        };
        serde_json::to_string(&info).map_err(WebError::other)
    }

    /// Begins a chat and returns its number. `options` is JSON: `system`, `maxTokens`, `stop`, `thinking`, `sampling`,
    /// and `turns`, pairs of a message and its answer.
    ///
    /// # Errors
    /// `Other`: an option is unknown or out of range.
    pub fn chat(&mut self, options: &str) -> Result<usize, WebError> {
        let options: ChatOptions = read(options)?;
        if options.stop.iter().any(String::is_empty) {
            return Err(WebError::other("a stop string is empty: expected at least one character"));
        }
        sampler(options.sampling.sampling(&self.session.model.file))?;
        let turn = |(user, answer): &(String, String)| Turn { answer: answer.clone(), ..Turn::new(user) };
        let turns = options.turns.iter().map(turn).collect();
        let conversation = Conversation { system: options.system.clone(), turns };
        self.chats.push(Chat { options, conversation });
        Ok(self.chats.len() - 1)
    }

    /// Forgets what was said in a chat, apart from its system message.
    ///
    /// # Errors
    /// `Other`: there is no such chat.
    pub fn reset(&mut self, chat: usize) -> Result<(), WebError> {
        self.select(chat)?;
        self.session.conversation.turns.clear();
        Ok(())
    }

    /// Begins the answer to `text` in a chat; [`WebEngine::step`] makes it.
    ///
    /// # Errors
    /// `Other`: there is no such chat.
    pub fn begin(&mut self, chat: usize, text: &str) -> Result<(), WebError> {
        self.select(chat)?;
        let options = self.chats[chat].options.clone();
        let model = &mut self.session.model;
        model.sampler = sampler(options.sampling.sampling(&model.file))?;
        (model.prefilled, model.prefill_ms) = (0, 0.0);
        self.session.thinking = options.thinking;
        self.session.max_tokens = options.max_tokens;
        self.session.stops = options.stop;
        self.answer = Answer { user: text.to_owned(), ..Answer::default() };
        Ok(())
    }

    /// Goes on with the answer for about `budget` milliseconds, at least for one token, or ends it if `cancelled`. Calls
    /// `show` with each piece of text. Returns the reply as JSON when the answer is complete.
    ///
    /// # Errors
    /// `ContextFull`, or `Other`; the conversation is then unchanged.
    pub fn step(
        &mut self,
        budget: f64,
        cancelled: bool,
        show: &js_sys::Function,
    ) -> Result<Option<String>, WebError> {
        let start = js_sys::Date::now();
        let model = &mut self.session.model;
        (model.deadline, model.is_paused, model.has_progress) = (start + budget, false, false);
        let Answer { user, tokens, dropped, .. } = &mut self.answer;
        // Each slice fits the conversation into the context again, and reports what it drops.
        *dropped = 0;
        let interrupted = AtomicBool::new(cancelled);
        let made = self.session.continue_answer(user, tokens, &interrupted, &mut |event| {
            match event {
                ChatEvent::Text(piece) => {
                    let shown = show.call1(&JsValue::NULL, &JsValue::from_str(piece));
                    shown.map_err(|_| WebError::other("a piece of text could not be shown"))?;
                }
                ChatEvent::Dropped { turns } => *dropped += turns,
                _ => {}
            }
            Ok(())
        });
        self.answer.milliseconds += js_sys::Date::now() - start;
        match made {
            Ok(stats) => self.reply(&stats).map(Some),
            Err(_) if self.session.model.is_paused => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl WebEngine {
    /// Moves the conversation of a chat to the session, and that of the chat before it back.
    fn select(&mut self, chat: usize) -> Result<(), WebError> {
        if chat >= self.chats.len() {
            return Err(WebError::other(format!("there is no chat {chat}: begin one with `model.chat()`")));
        }
        if self.current != Some(chat) {
            let conversation = std::mem::take(&mut self.chats[chat].conversation);
            let before = std::mem::replace(&mut self.session.conversation, conversation);
            if let Some(from) = self.current.replace(chat) {
                self.chats[from].conversation = before;
            }
        }
        Ok(())
    }

    fn reply(&self, stats: &AnswerStats) -> Result<String, WebError> {
        let model = &self.session.model;
        let reply = Reply {
            finish: match stats.end {
                End::Stop => "stop",
                End::Length => "length",
                End::Context => "context",
                End::Interrupted => "cancelled",
            },
            forgotten_turns: self.answer.dropped,
            prompt_tokens: model.prefilled,
            prompt_seconds: model.prefill_ms / 1e3,
            tokens: self.answer.tokens.len(),
            seconds: (self.answer.milliseconds - model.prefill_ms) / 1e3,
            token_ids: self.answer.tokens.iter().map(|token| token.0).collect(),
        };
        serde_json::to_string(&reply).map_err(WebError::other)
    }
}

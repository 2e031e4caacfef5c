//! The model of a chat, on one thread.

use crate::error::{Code, WebError};
use crate::memory::inference_memory;
use crate::options::ModelOptions;
use thimble_chat::{ChatError, ChatModel, ChatPrompt, encode_chat};
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::{Kernels, KvKind, SingleThread};
use thimble_runtime::memory::{MemoryPlan, PlanOptions};
use thimble_runtime::model::Weights;
use thimble_runtime::sampler::{Sampler, Sampling, TokenMask};
use thimble_runtime::session::Session;

/// Prompt tokens between two looks at the clock.
const PREFILL: usize = 16;
/// The context unless one is asked for; the terminal's default.
const DEFAULT_CONTEXT: usize = 2048;

/// The kernels that this module was compiled with. It needs no other set.
pub(crate) fn kernels() -> Kernels {
    #[cfg(target_feature = "simd128")]
    return Kernels::simd128();
    #[cfg(not(target_feature = "simd128"))]
    Kernels::scalar()
}

/// A model with its session and sampler.
pub(crate) struct WebModel {
    pub(crate) file: ModelFile<'static>,
    pub(crate) session: Session<Cpu<'static, 'static, 'static, SingleThread>>,
    pub(crate) sampler: Sampler<'static>,
    /// Milliseconds of the worker's clock after which the answer is left for later.
    pub(crate) deadline: f64,
    /// Whether the answer was left at the deadline.
    pub(crate) is_paused: bool,
    /// Whether anything was computed since the deadline was set: a slice makes at least that progress.
    pub(crate) has_progress: bool,
    /// Prompt tokens that were computed for this answer, and the milliseconds that they took.
    pub(crate) prefilled: usize,
    pub(crate) prefill_ms: f64,
}

impl WebModel {
    /// The model in a file that fills `bytes`; checks every section's checksum.
    ///
    /// # Errors
    /// A damaged file, a context that is out of range, or too little memory.
    pub(crate) fn open(bytes: &'static [u8], options: &ModelOptions) -> Result<WebModel, WebError> {
        let file = ModelFile::parse(bytes)?;
        file.verify()?;
        let context = options.context.unwrap_or(DEFAULT_CONTEXT.min(file.config().context));
        let kv = if options.exact { KvKind::F32 } else { KvKind::F16 };
        let plan = PlanOptions { exact: options.exact, kv, ..PlanOptions::generate(context) };
        let plan = MemoryPlan::new(file.config(), &plan, &kernels()).map_err(WebError::other)?;
        let memory = inference_memory(plan.bytes())?;
        let cpu = Cpu::new(Weights::new(&file)?, &plan, kernels(), &SingleThread, memory);
        let cpu = cpu.map_err(WebError::other)?;
        Ok(WebModel {
            file,
            session: Session::new(cpu),
            sampler: sampler(Sampling::GREEDY)?,
            deadline: f64::INFINITY,
            is_paused: false,
            has_progress: false,
            prefilled: 0,
            prefill_ms: 0.0,
        })
    }
}

/// A sampler.
///
/// # Errors
/// A setting is out of range.
pub(crate) fn sampler(sampling: Sampling) -> Result<Sampler<'static>, WebError> {
    Sampler::new(sampling).map_err(|error| WebError::new(Code::Other, error.to_string()))
}

impl ChatModel for WebModel {
    fn context(&self) -> usize {
        self.session.context()
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        encode_chat(&self.file, prompt)
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        self.session.reuse(tokens)
    }

    fn batch(&self) -> usize {
        PREFILL
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        let start = js_sys::Date::now();
        if self.has_progress && start >= self.deadline {
            self.is_paused = true;
            // Any error leaves the chat as it was; `WebEngine::step` knows this one by `is_paused`. Here, all text of the tokens
            // so far has been shown: the answer goes on without showing any of it again.
            return Err(ChatError::NoTemplate);
        }
        self.session.prefill(tokens)?;
        self.has_progress = true;
        if tokens.len() > 1 {
            self.prefilled += tokens.len();
            self.prefill_ms += js_sys::Date::now() - start;
        }
        Ok(())
    }

    fn sample(&mut self) -> Token {
        self.session.sample(&mut self.sampler)
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        self.session.sample_masked(&mut self.sampler, mask)
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.file.tokenizer().token_bytes(token)
    }

    fn is_stop(&self, token: Token) -> bool {
        self.file.config().is_stop(token)
    }

    fn clear_cache(&mut self) {
        // Position 0 always exists.
        let _ = self.session.rewind(0);
    }
}

//! What the scheduler is asked to do, and what it reports.

use crate::error::ApiError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use thimble_chat::End;
use thimble_grammar::Grammar;
use thimble_runtime::Token;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::sampler::Sampler;
use tokio::sync::mpsc;

/// Who asks: fairness is between clients.
pub(crate) type ClientId = u64;

/// One sequence to run: a choice of an answer, or a text to embed.
pub(crate) struct Job {
    /// Who asks.
    pub(crate) client: ClientId,
    /// Its number in its request, which events repeat.
    pub(crate) index: usize,
    /// The tokens of prompt or text; at least one, and fewer than the context has.
    pub(crate) prompt: Arc<[Token]>,
    /// What to do with them.
    pub(crate) work: Work,
    /// Where events go. If nobody listens any more, or reads too slowly, the job ends.
    pub(crate) events: mpsc::Sender<Event>,
    /// Ends the job without a further event.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// When the job ends with what it has.
    pub(crate) deadline: Instant,
    /// The place of its request in the queue, until it begins.
    pub(crate) place: Option<Arc<QueuePlace>>,
}

impl Job {
    /// Whether tokens that a slot holds already need not run again.
    pub(crate) fn reuses(&self) -> bool {
        match &self.work {
            Work::Generate(generation) => !generation.scores_prompt,
            Work::Embed(_) => false,
        }
    }
}

/// What to do with the tokens of a job.
pub(crate) enum Work {
    /// Answer them.
    Generate(Box<Generation>),
    /// Embed them.
    Embed(Pooling),
}

/// How an answer is generated.
pub(crate) struct Generation {
    /// The sampler, without biases.
    pub(crate) sampler: Sampler<'static>,
    /// Biases of tokens, which [`Sampler::with_bias`] accepts.
    pub(crate) biases: Arc<[(Token, f32)]>,
    /// What the answer may be. Its constraint is made when the job begins: it takes memory.
    pub(crate) grammar: Option<Grammar>,
    /// Most tokens of the answer.
    pub(crate) max_tokens: usize,
    /// Whether a stop token ends the answer; otherwise it is a token like any other.
    pub(crate) stops: bool,
    /// Report log-probabilities, and so many of the most probable tokens.
    pub(crate) log_probabilities: Option<usize>,
    /// Report those of the prompt's tokens, too.
    pub(crate) scores_prompt: bool,
}

/// A token of an answer or a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReportedToken {
    /// The token.
    pub(crate) token: Token,
    /// Its log-probability and the most probable tokens with theirs, if asked for; a prompt's first token has none.
    pub(crate) log_probabilities: Option<TokenScores>,
}

/// What the model thought of a token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenScores {
    /// Log-probability, nats.
    pub(crate) log_probability: f32,
    /// The most probable tokens, best first.
    pub(crate) likely: Vec<(Token, f32)>,
}

/// What happened to a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// It got a slot, which holds the first `cached` tokens already.
    Begun {
        /// [`Job::index`].
        index: usize,
        /// Prompt tokens that are not computed again.
        cached: usize,
    },
    /// The tokens of its prompt that were scored, in order.
    Prompt {
        /// [`Job::index`].
        index: usize,
        /// The next of them.
        tokens: Vec<ReportedToken>,
    },
    /// The next tokens of the answer.
    Tokens {
        /// [`Job::index`].
        index: usize,
        /// At least one.
        tokens: Vec<ReportedToken>,
    },
    /// The answer ended.
    Ended {
        /// [`Job::index`].
        index: usize,
        /// Why.
        end: End,
    },
    /// The embedding of the text, of length 1.
    Embedding {
        /// [`Job::index`].
        index: usize,
        /// `[hidden]`.
        vector: Vec<f32>,
    },
    /// The job failed.
    Failed(ApiError),
}

/// Counts requests that wait for a slot, and their tokens.
#[derive(Debug)]
pub(crate) struct QueueCount {
    requests: AtomicUsize,
    tokens: AtomicUsize,
    most_requests: usize,
    most_tokens: usize,
}

/// The place of a request in the queue; free again when its last job begins or ends.
#[derive(Debug)]
pub(crate) struct QueuePlace {
    queue: Arc<QueueCount>,
    tokens: usize,
}

impl QueueCount {
    /// A queue for so many requests of `context` tokens each, however they are distributed.
    pub(crate) fn new(requests: usize, context: usize) -> Arc<QueueCount> {
        let (waiting, tokens) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let most_tokens = requests.saturating_mul(context);
        Arc::new(QueueCount { requests: waiting, tokens, most_requests: requests, most_tokens })
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Takes a place for a request of so many tokens; `None` if there is none.
    pub(crate) fn enter(self: &Arc<QueueCount>, tokens: usize) -> Option<Arc<QueuePlace>> {
        let one_more = |waiting: usize| (waiting < self.most_requests).then_some(waiting + 1);
        self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        // A single request may have more than the queue.
        let fits = |waiting: usize| {
            waiting.checked_add(tokens).filter(|&all| waiting == 0 || all <= self.most_tokens)
        };
        if self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::new(QueuePlace { queue: Arc::clone(self), tokens }))
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.queue.requests.fetch_sub(1, Ordering::Relaxed);
        self.queue.tokens.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

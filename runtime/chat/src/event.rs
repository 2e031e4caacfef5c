//! What happens while an answer is made, and what it took.

use crate::tools::{CallError, ToolCall};
use std::time::Duration;
use thimble_runtime::sampler::SampledToken;

/// What happens while an answer is made.
#[derive(Debug, PartialEq)]
pub enum ChatEvent<'a> {
    /// A token of the answer was sampled, from a model that keeps log-probabilities ([`crate::ChatModel::sampled`]). Its text
    /// comes later: a character can take several tokens, and what may begin a stop sequence is held back.
    Sampled(SampledToken<'a>),
    /// The next piece of the answer. Reasoning comes first, between `<think>` and `</think>`:
    /// [`crate::ReasoningSplitter`] tells it apart.
    Text(&'a str),
    /// The model calls a tool; the call is no part of the text.
    Call(&'a ToolCall),
    /// What follows as text looks like a call, but is none.
    InvalidCall(&'a CallError),
    /// The oldest turns were dropped because the context is full.
    Dropped {
        /// Number of turns.
        turns: usize,
    },
    /// A long prompt is being computed.
    Prefill {
        /// Tokens computed so far.
        done: usize,
        /// Tokens to compute in all.
        of: usize,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A stop token, a stop sequence, or the end of a constrained answer, which is complete.
    Stop,
    /// The maximum number of tokens.
    Length,
    /// The context is full, and there is nothing left to drop.
    Context,
    /// The user interrupted it.
    Interrupted,
}

/// Statistics of an answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerStats {
    /// Why it ended.
    pub end: End,
    /// Prompt tokens found in the KV cache.
    pub reused: usize,
    /// Prompt tokens computed.
    pub prefilled: usize,
    /// Time to compute them.
    pub prefill_time: Duration,
    /// Tokens of the answer.
    pub decoded: usize,
    /// Time to decode them.
    pub decode_time: Duration,
    /// Calls of tools, which wait for their results.
    pub calls: usize,
    /// Whether message and answer were added to the conversation.
    pub remembered: bool,
}

impl AnswerStats {
    /// An answer interrupted before anything was computed.
    pub(crate) const fn interrupted() -> AnswerStats {
        AnswerStats {
            end: End::Interrupted,
            reused: 0,
            prefilled: 0,
            prefill_time: Duration::ZERO,
            decoded: 0,
            decode_time: Duration::ZERO,
            calls: 0,
            remembered: false,
        }
    }
}

//! What an app learns when an answer ends.

use crate::{TokenLogProbability, ToolCall};
use thimble_chat::{AnswerStats, End};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, uniffi::Enum)]
pub enum Finish {
    /// The model ended it, or it reached a stop text.
    Stop,
    /// It reached the token limit.
    Length,
    /// The context is full.
    Context,
    /// It was stopped: by `cancel`, by a listener that failed, or because its object is gone.
    #[default]
    Cancelled,
}

impl From<End> for Finish {
    fn from(end: End) -> Finish {
        match end {
            End::Stop => Finish::Stop,
            End::Length => Finish::Length,
            End::Context => Finish::Context,
            End::Interrupted => Finish::Cancelled,
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, uniffi::Record)]
pub struct Reply {
    /// All pieces, concatenated: the answer without its reasoning.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Oldest turns that were dropped because the context was full.
    pub forgotten_turns: u32,
    /// Prompt tokens that were already computed.
    pub reused_tokens: u32,
    /// Prompt tokens computed for this answer.
    pub prompt_tokens: u32,
    /// Seconds that those took.
    pub prompt_seconds: f64,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Seconds that those took.
    pub seconds: f64,
    /// What the model thought before it answered; empty if it did not.
    #[uniffi(default = "")]
    pub reasoning: String,
    /// Whether the answer is whole: it was not cut off by a limit or stopped, and it has the form that was asked for.
    #[uniffi(default = false)]
    pub complete: bool,
    /// The tools that the model calls, in order; the app answers with [`crate::Chat::send_tool_results`].
    #[uniffi(default = [])]
    pub tool_calls: Vec<ToolCall>,
    /// Of each token of the answer, if they were asked for.
    #[uniffi(default = [])]
    pub log_probabilities: Vec<TokenLogProbability>,
}

impl Reply {
    /// The same reply with the text of an answer, which may begin with reasoning.
    pub(crate) fn with_answer(self, answer: &str, has_reasoning: bool) -> Reply {
        let split = || thimble_chat::split_reasoning(answer);
        let (reasoning, text) = if has_reasoning { split() } else { (String::new(), answer.to_owned()) };
        Reply { text, reasoning, ..self }
    }

    /// The figures of an answer, without its text.
    pub(crate) fn new(answer: &AnswerStats) -> Reply {
        Reply {
            finish: answer.end.into(),
            complete: answer.end == End::Stop,
            reused_tokens: answer.reused as u32,
            prompt_tokens: answer.prefilled as u32,
            prompt_seconds: answer.prefill_time.as_secs_f64(),
            tokens: answer.decoded as u32,
            seconds: answer.decode_time.as_secs_f64(),
            ..Reply::default()
        }
    }
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

//! The JSON of responses.

use crate::schedule::{ReportedToken, TokenScores};
use crate::vocabulary::TokenTable;
use serde_json::{Value, json};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};
use thimble_chat::tools::ToolCall;
use thimble_runtime::Token;

/// What every response of one request repeats.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    /// Unique.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
}

impl ResponseHead {
    /// A head whose id begins with `prefix`.
    pub(crate) fn new(prefix: &str, model: &str) -> ResponseHead {
        let id = format!("{prefix}-{}", random_id());
        ResponseHead { id, created: now(), model: model.to_owned() }
    }
}

/// 32 hexadecimal digits, different each time.
pub(crate) fn random_id() -> String {
    let half = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", half(), half())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Why a choice ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// A stop token, a stop sequence, or the end of a shape.
    Stop,
    /// A limit of tokens or time, or the end of the server.
    Length,
    /// Calls of tools.
    ToolCalls,
}

impl Finish {
    /// The word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
        }
    }
}

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Those of its prompts; a prompt counts once, however many answers it has.
    pub(crate) prompt: usize,
    /// Those of prompts that a slot held already.
    pub(crate) cached: usize,
    /// Those of its answers.
    pub(crate) answer: usize,
}

impl Usage {
    /// The object `usage`.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }
}

/// A call of a tool; `id` is unique beyond its conversation.
pub(crate) fn call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": call.arguments.to_string() },
    })
}

/// The log-probabilities of a chat: the list `content`.
pub(crate) fn chat_log_probabilities(tokens: &[ReportedToken], table: &TokenTable) -> Value {
    let scored = |token: Token, log_probability: f32| {
        let bytes = table.bytes(token);
        let text = String::from_utf8_lossy(bytes);
        json!({ "token": text, "logprob": number(log_probability), "bytes": bytes })
    };
    let entries = tokens.iter().filter_map(|reported| {
        let TokenScores { log_probability, likely } = reported.log_probabilities.as_ref()?;
        let mut entry = scored(reported.token, *log_probability);
        let top: Vec<Value> = likely.iter().map(|&(token, score)| scored(token, score)).collect();
        entry["top_logprobs"] = top.into();
        Some(entry)
    });
    let content: Vec<Value> = entries.collect();
    json!({ "content": content, "refusal": null })
}

/// The log-probabilities of a completion whose text so far has `offset` characters; `offset` grows by theirs.
pub(crate) fn completion_log_probabilities(
    tokens: &[ReportedToken],
    table: &TokenTable,
    offset: &mut usize,
) -> Value {
    let (mut texts, mut scores, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for reported in tokens {
        let text = table.text(reported.token);
        offsets.push(Value::from(*offset));
        *offset += text.chars().count();
        texts.push(Value::from(text));
        match &reported.log_probabilities {
            None => {
                scores.push(Value::Null);
                tops.push(Value::Null);
            }
            Some(TokenScores { log_probability, likely }) => {
                scores.push(number(*log_probability));
                let top = likely.iter().map(|&(token, score)| (table.text(token), number(score)));
                tops.push(Value::Object(top.collect()));
            }
        }
    }
    json!({ "tokens": texts, "token_logprobs": scores, "top_logprobs": tops, "text_offset": offsets })
}

/// A log-probability; JSON has no minus infinity, for which OpenAI writes -9999.
fn number(log_probability: f32) -> Value {
    match log_probability.is_finite() {
        true => f64::from(log_probability).into(),
        false => (-9999.0).into(),
    }
}

/// The bytes as base64 (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= group.len() {
                true => out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

/// An event of a stream.
pub(crate) fn event(value: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "data: {value}\n\n");
    out
}

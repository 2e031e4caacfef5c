//! What a run made, and what it took.

use super::log_probabilities::TokenLogProbabilities;
use crate::terminal;
use serde::Serialize;
use serde_json::Value;

/// Why the text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Finish {
    Stop,
    Length,
    Context,
    /// The model stopped after calls of tools.
    #[serde(rename = "tool_calls")]
    Calls,
}

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Output {
    pub(super) prompt_ids: Vec<u32>,
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
    pub(super) finish_reason: Finish,
    /// In the form of a chat's lines; absent without tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Vec<TokenLogProbabilities>>,
    pub(super) stats: Stats,
}

/// What it took.
#[derive(Serialize)]
pub(super) struct Stats {
    pub(super) prefill_tokens: usize,
    pub(super) prefill_seconds: f64,
    pub(super) decode_tokens: usize,
    pub(super) decode_seconds: f64,
    /// Tokens drafted by `--lookup` that took no forward pass of their own.
    pub(super) accepted_draft_tokens: usize,
    /// From the start of the process until the first token was chosen; `null` if none was.
    pub(super) first_token_seconds: Option<f64>,
    pub(super) peak_resident_bytes: Option<u64>,
    pub(super) plan_bytes: usize,
    pub(super) backend: String,
    pub(super) threads: usize,
    pub(super) seed: u64,
}

/// Reports the statistics on stderr.
pub(super) fn report(output: &Output) {
    let stats = &output.stats;
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    let ended = match output.finish_reason {
        Finish::Stop => "stopped",
        Finish::Length => "length reached",
        Finish::Context => "context full",
        Finish::Calls => "called tools",
    };
    let first =
        stats.first_token_seconds.map_or(String::new(), |s| format!("first token {:.0} ms; ", s * 1e3));
    let peak = stats
        .peak_resident_bytes
        .map_or(String::new(), |b| format!("peak memory {:.1} MB; ", b as f64 / 1e6));
    terminal::note(&format!(
        "[{ended}; prompt {} tokens at {:.0}/s; answer {} tokens at {:.1}/s; {first}{peak}reserved {:.1} MB; {}, {} threads; seed {}]",
        stats.prefill_tokens,
        rate(stats.prefill_tokens, stats.prefill_seconds),
        stats.decode_tokens,
        rate(stats.decode_tokens, stats.decode_seconds),
        stats.plan_bytes as f64 / 1e6,
        stats.backend,
        stats.threads,
        stats.seed,
    ));
}

//! Counters, in the text format of Prometheus.

use crate::schedule::QueueCount;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the histogram of times to the first token, seconds.
const FIRST_TOKEN_BOUNDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What the server counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: [AtomicU64; 5],
    pub(crate) cancelled: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) answer_tokens: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) busy_slots: AtomicU64,
    pub(crate) waiting_jobs: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) panics: AtomicU64,
    first_token: [AtomicU64; FIRST_TOKEN_BOUNDS.len() + 1],
    first_token_microseconds: AtomicU64,
}

impl Metrics {
    /// Counts a response.
    pub(crate) fn responded(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the time from a request to its first token, seconds.
    pub(crate) fn first_token(&self, seconds: f64) {
        let at = FIRST_TOKEN_BOUNDS.iter().position(|&bound| seconds <= bound);
        self.first_token[at.unwrap_or(FIRST_TOKEN_BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        self.first_token_microseconds.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    /// All of them as text, with those of the queue and the number of slots.
    pub(crate) fn text(&self, queue: &QueueCount, slots: usize) -> String {
        let mut out = String::new();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut add = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "# HELP thimble_{name} {help}\n# TYPE thimble_{name} {kind}\nthimble_{name} {value}"
            );
        };
        add("prompt_tokens_total", "counter", "Prompt tokens computed", load(&self.prompt_tokens));
        add("cached_tokens_total", "counter", "Prompt tokens found in a slot", load(&self.cached_tokens));
        add("answer_tokens_total", "counter", "Tokens of answers computed", load(&self.answer_tokens));
        add("steps_total", "counter", "Passes over the weights for answers", load(&self.steps));
        add("cancelled_total", "counter", "Jobs whose client left or read too slowly", load(&self.cancelled));
        add("panics_total", "counter", "Requests that ended in a panic", load(&self.panics));
        add("connections", "gauge", "Open connections", load(&self.connections));
        add("busy_slots", "gauge", "Slots at work", load(&self.busy_slots));
        add("slots", "gauge", "Slots", slots as u64);
        add("waiting_jobs", "gauge", "Answers and texts that wait for a slot", load(&self.waiting_jobs));
        add(
            "waiting_requests",
            "gauge",
            "Requests of which nothing has begun, or not all",
            queue.waiting() as u64,
        );
        let name = "thimble_responses_total";
        let _ = writeln!(out, "# HELP {name} Responses by class of status\n# TYPE {name} counter");
        for (class, counter) in self.requests.iter().enumerate() {
            let _ = writeln!(out, "{name}{{status=\"{}xx\"}} {}", class + 1, load(counter));
        }
        let name = "thimble_first_token_seconds";
        let _ = writeln!(out, "# HELP {name} From the request to the first token\n# TYPE {name} histogram");
        let mut count = 0;
        for (bound, counter) in FIRST_TOKEN_BOUNDS.iter().zip(&self.first_token) {
            count += load(counter);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        count += self.first_token.last().map_or(0, load);
        let sum = load(&self.first_token_microseconds) as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
        out
    }
}

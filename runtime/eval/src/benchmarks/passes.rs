//! Plans the forward passes of an item's requests, so that each common prefix runs once.

use crate::request::Request;
use std::ops::{AddAssign, Range};
use thimble_runtime::Token;
use thimble_runtime::format::Config;

/// One forward pass: the tokens of a request that the session does not hold yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The request whose tokens run.
    pub(crate) request: usize,
    /// The tokens to run; the session keeps those before.
    pub(crate) run: Range<usize>,
    /// Index in the request of the first token whose logits are needed.
    pub(crate) ask: usize,
    /// The requests that get log-probabilities in this pass, itself first, each with the length of the shared prefix.
    pub(crate) sharers: Vec<(usize, usize)>,
}

fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The passes for `requests` on a session that holds `held`, each continuing from the prefix it shares with the previous
/// one. The logits after a token are computed once for all requests that need them: four choices of one token each
/// cost one pass over their context and one row of logits.
///
/// Every request has at least one token before its continuation.
pub(crate) fn passes(requests: &[Request], held: &[Token]) -> Vec<Pass> {
    let mut order: Vec<usize> = (0..requests.len()).filter(|&r| requests[r].continuation_len() > 0).collect();
    order.sort_by(|&a, &b| requests[a].tokens.cmp(&requests[b].tokens));
    // Logits of earlier items are gone: those of this item's first continuation token are computed again.
    let first_asked = order.iter().map(|&r| requests[r].from - 1).min().unwrap_or(0);
    let mut passes: Vec<Pass> = Vec::new();
    for (place, &request) in order.iter().enumerate() {
        let Request { tokens, from } = &requests[request];
        let last = tokens.len() - 1;
        let keep = match passes.last() {
            None => common(held, &tokens[..last]).min(first_asked),
            // The previous pass did not run its last token.
            Some(pass) => {
                let before = &requests[pass.request].tokens;
                common(&before[..before.len() - 1], &tokens[..last])
            }
        };
        if keep == last {
            // Earlier passes read all of its log-probabilities.
            continue;
        }
        let mut ask = (*from - 1).max(keep);
        let mut sharers = vec![(request, tokens.len())];
        for &other in &order[place + 1..] {
            let shared = common(tokens, &requests[other].tokens);
            // The first token of this pass whose logits it needs.
            let first = (requests[other].from - 1).max(keep);
            if shared <= keep {
                break;
            }
            if first < shared.min(last) {
                ask = ask.min(first);
                sharers.push((other, shared));
            }
        }
        passes.push(Pass { request, run: keep..last, ask, sharers });
    }
    passes
}

/// The work of a computation, in machine-independent counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    /// Forward passes of more than one token or for log-probabilities.
    pub passes: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// The total of positions that these tokens attended to.
    pub attended: u64,
    /// Rows of logits.
    pub head_rows: u64,
    /// Generated tokens.
    pub decoded: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.passes += other.passes;
        self.tokens += other.tokens;
        self.attended += other.attended;
        self.head_rows += other.head_rows;
        self.decoded += other.decoded;
    }
}

impl Work {
    /// The work of running the positions `run` with logits from `ask` on.
    pub(crate) fn of(run: &Range<usize>, ask: usize) -> Work {
        let (start, end) = (run.start as u64, run.end as u64);
        Work {
            passes: 1,
            tokens: end - start,
            attended: (start + 1 + end) * (end - start) / 2,
            head_rows: run.end.saturating_sub(ask) as u64,
            decoded: 0,
        }
    }

    /// The work of these passes.
    pub(crate) fn sum(passes: &[Pass]) -> Work {
        let mut sum = Work::default();
        passes.iter().for_each(|pass| sum += Work::of(&pass.run, pass.ask));
        sum
    }

    /// Multiply-adds, generation excluded, plus those of [`PASS`] tokens for each pass: reading the weights takes time.
    pub(crate) fn effort(&self, config: &Config) -> f64 {
        let c = |n: usize| n as f64;
        let layer = 2.0 * c(config.hidden) * (c(config.q_dim()) + c(config.kv_dim()))
            + 3.0 * c(config.hidden) * c(config.ffn);
        let attention = 2.0 * c(config.q_dim());
        c(config.layers)
            * (layer * (self.tokens as f64 + PASS * self.passes as f64) + attention * self.attended as f64)
            + c(config.hidden) * c(config.vocab) * self.head_rows as f64
    }
}

/// The fixed cost of a pass, in tokens.
const PASS: f64 = 4.0;

#[cfg(test)]
#[path = "passes_tests.rs"]
mod tests;

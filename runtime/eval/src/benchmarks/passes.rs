//! Which tokens have to pass through the model for an item's requests, each common prefix once.

use crate::request::Request;
use std::ops::{AddAssign, Range};
use thimble_runtime::Token;
use thimble_runtime::format::Config;

/// One forward pass: the tokens of a request that the session does not hold yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Whose tokens.
    pub(crate) request: usize,
    /// The tokens to run; those in front stay from the pass before.
    pub(crate) run: Range<usize>,
    /// Index in the request of the first token behind which log-probabilities are asked.
    pub(crate) ask: usize,
    /// The requests that get their log-probabilities in this pass, itself the first: they share its tokens to some
    /// length, which is given.
    pub(crate) sharers: Vec<(usize, usize)>,
}

fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The passes for `requests` on a session that holds `held`, ordered so that each goes on where the one before
/// branches off. The logits behind a token are computed once, for all requests that ask there: four choices of one
/// token each cost one pass over their context and one row of logits.
///
/// Every request has at least one token in front of its continuation.
pub(crate) fn passes(requests: &[Request], held: &[Token]) -> Vec<Pass> {
    let mut order: Vec<usize> = (0..requests.len()).filter(|&r| requests[r].asked() > 0).collect();
    order.sort_by(|&a, &b| requests[a].tokens.cmp(&requests[b].tokens));
    // What other items left holds no log-probabilities: the first of this item's has to be computed again.
    let first_asked = order.iter().map(|&r| requests[r].from - 1).min().unwrap_or(0);
    let mut passes: Vec<Pass> = Vec::new();
    for (place, &request) in order.iter().enumerate() {
        let Request { tokens, from } = &requests[request];
        let last = tokens.len() - 1;
        let keep = match passes.last() {
            None => common(held, &tokens[..last]).min(first_asked),
            // The pass before did not run its last token.
            Some(pass) => {
                let before = &requests[pass.request].tokens;
                common(&before[..before.len() - 1], &tokens[..last])
            }
        };
        if keep == last {
            // All of its log-probabilities were read in passes before.
            continue;
        }
        let mut ask = (*from - 1).max(keep);
        let mut sharers = vec![(request, tokens.len())];
        for &other in &order[place + 1..] {
            let shared = common(tokens, &requests[other].tokens);
            // It asks behind tokens of this pass from its own first on.
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

/// What a computation consists of, in counts that do not depend on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    /// Forward passes of more than one token or for log-probabilities.
    pub passes: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Positions that these tokens attended to, added up.
    pub attended: u64,
    /// Rows of logits.
    pub head_rows: u64,
    /// Tokens that were generated.
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
    /// Of running the positions `run` with logits behind those from `ask` on.
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

    /// Of these passes.
    pub(crate) fn sum(passes: &[Pass]) -> Work {
        let mut sum = Work::default();
        passes.iter().for_each(|pass| sum += Work::of(&pass.run, pass.ask));
        sum
    }

    /// Multiply-adds without those of generated tokens, each pass with the time of [`PASS`] tokens on top: the weights
    /// have to come from memory.
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

/// What a pass costs besides its tokens, in tokens.
const PASS: f64 = 4.0;

#[cfg(test)]
#[path = "passes_tests.rs"]
mod tests;

//! Timing of two processors on the same model, and the backend that follows from it.

use crate::backend::BackendKind;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::model::{Backend, Batch, forward};
use thimble_runtime::sequence::Limits;

/// Largest prompt that is timed, in tokens.
const TIMED_PROMPT: usize = 256;
/// Tokens that are decoded.
const DECODED: usize = 8;
/// Runs of each; the fastest counts. The first one compiles shaders, maps pages and wakes threads.
const ROUNDS: usize = 3;
/// Seconds after which no further round starts.
const TIME_LIMIT: f64 = 1.0;
/// The workload to optimize: tokens of a prompt and of its answer.
const TYPICAL: (f64, f64) = (512.0, 128.0);
/// The share of the time that a GPU has to save.
const MIN_GAIN: f64 = 0.1;

/// Seconds for a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecondsPerToken {
    /// In a prompt.
    pub prompt: f64,
    /// Decoded one by one.
    pub token: f64,
}

/// Timings of both processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendTimings {
    /// The CPU.
    pub cpu: SecondsPerToken,
    /// The GPU.
    pub gpu: SecondsPerToken,
    /// Seconds to copy one position of the KV cache from one to the other.
    pub handover: f64,
}

/// Tokens of the prompt that is timed.
pub(crate) fn prompt(limits: &Limits) -> usize {
    TIMED_PROMPT.min(limits.batch).min(limits.context)
}

/// Times a prompt, and decoding after it as far as the context allows.
pub(crate) fn speeds(backend: &mut (impl Backend + ?Sized)) -> SecondsPerToken {
    let prompt = TIMED_PROMPT.min(backend.batch()).min(backend.context());
    let decoded = DECODED.min(backend.context() - prompt);
    // Any token will do; every vocabulary has this one.
    let tokens = vec![Token(0); prompt];
    let mut best = SecondsPerToken { prompt: f64::INFINITY, token: f64::INFINITY };
    let begin = Instant::now();
    for round in 0..ROUNDS {
        if round > 0 && begin.elapsed().as_secs_f64() > TIME_LIMIT {
            break;
        }
        let start = Instant::now();
        step(backend, &Batch { tokens: &tokens, position: 0 });
        best.prompt = best.prompt.min(start.elapsed().as_secs_f64() / prompt as f64);
        let start = Instant::now();
        for position in prompt..prompt + decoded {
            step(backend, &Batch { tokens: &tokens[..1], position });
        }
        best.token = best.token.min(start.elapsed().as_secs_f64() / decoded as f64);
    }
    // The prompt fills the context: nothing was decoded.
    if best.token.is_finite() { best } else { SecondsPerToken { token: best.prompt, ..best } }
}

fn step(backend: &mut (impl Backend + ?Sized), batch: &Batch<'_>) {
    forward(backend, batch);
    backend.head(batch.tokens.len() - 1..batch.tokens.len());
    std::hint::black_box(backend.logits());
}

impl BackendTimings {
    /// The backend that finishes a prompt of 512 tokens and an answer of 128 first; the CPU alone unless another saves a tenth
    /// of the time.
    pub fn best(&self) -> BackendKind {
        let seconds = |kind: BackendKind| {
            let (prompts, tokens) = kind.on_gpu();
            let on = |gpu| if gpu { self.gpu } else { self.cpu };
            let handover = if prompts == tokens { 0.0 } else { self.handover };
            TYPICAL.0 * (on(prompts).prompt + handover) + TYPICAL.1 * on(tokens).token
        };
        let all = [BackendKind::Gpu, BackendKind::GpuPrompts, BackendKind::GpuTokens];
        let best = all.into_iter().min_by(|&a, &b| seconds(a).total_cmp(&seconds(b)));
        let worth = |kind: &BackendKind| seconds(*kind) < (1.0 - MIN_GAIN) * seconds(BackendKind::Cpu);
        best.filter(worth).unwrap_or(BackendKind::Cpu)
    }
}

impl std::fmt::Display for BackendTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BackendTimings { cpu, gpu, handover } = self;
        write!(
            f,
            "prompts: GPU {:.0} tokens/s, CPU {:.0}; decoding: GPU {:.1} tokens/s, CPU {:.1}; copying 1,000 \
             positions of the KV cache: {:.1} ms",
            1.0 / gpu.prompt,
            1.0 / cpu.prompt,
            1.0 / gpu.token,
            1.0 / cpu.token,
            handover * 1e6
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_does_what_it_is_best_at() {
        let speeds = |prompt, token| SecondsPerToken { prompt, token };
        let best = |cpu, gpu, handover| BackendTimings { cpu, gpu, handover }.best();
        let cpu = speeds(1e-3, 5e-3);
        assert_eq!(best(cpu, speeds(1e-4, 1e-3), 1e-5), BackendKind::Gpu);
        assert_eq!(best(cpu, speeds(1e-4, 2e-2), 1e-5), BackendKind::GpuPrompts);
        assert_eq!(best(cpu, speeds(1e-2, 1e-3), 1e-5), BackendKind::GpuTokens);
        assert_eq!(best(cpu, speeds(1e-2, 1e-1), 1e-5), BackendKind::Cpu);
        assert_eq!(best(cpu, speeds(0.95e-3, 4.8e-3), 1e-5), BackendKind::Cpu, "not worth it");
        assert_eq!(
            best(cpu, speeds(1e-4, 2e-2), 2e-3),
            BackendKind::Cpu,
            "the copy costs more than it saves"
        );
        assert_eq!(best(cpu, speeds(f64::INFINITY, f64::INFINITY), 0.0), BackendKind::Cpu);
    }
}

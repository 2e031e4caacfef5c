//! A sequence on the CPU, and on a GPU beside it where there is one.
//!
//! Each processor has a KV cache; the layouts are the same within a chunk. Before a processor runs a batch, it gets the part
//! of the cache that it lacks from the other one, as a plain copy: in layers with a sliding window, what the window reaches.
//! The tokens lie in the CPU's memory, so that a session survives the loss
//! of its GPU: what only the GPU held is recomputed.

mod residual;
mod state;

use crate::accelerator::{Accelerator, GpuWork};
use crate::backend::BackendKind;
use crate::measure::{self, BackendTimings, SecondsPerToken};
use crate::self_test;
use state::{Cached, LastBatch, Logits, Shared, State, resumes};
use std::ops::Range;
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::adapter::{AdapterError, WeightedAdapter};
use thimble_runtime::cpu::Cpu;
use thimble_runtime::kernels::ThreadPool;
use thimble_runtime::model::{Batch, Weights, forward};
use thimble_runtime::sampler::Sampler;
use thimble_runtime::sequence::{Limits, Sequence};

/// A sequence on the CPU, with an accelerator or without.
pub struct Hybrid<'a, T: ThreadPool> {
    cpu: Cpu<'a, 'a, 'a, T>,
    state: State<'a>,
    /// Receives the warning that the accelerator is no longer used.
    notify: fn(&str),
}

impl<'a, T: ThreadPool> Hybrid<'a, T> {
    /// The CPU alone.
    pub fn new(cpu: Cpu<'a, 'a, 'a, T>) -> Self {
        Hybrid { cpu, state: State::CpuOnly { lowest: 0 }, notify: |_| {} }
    }

    /// Adds an accelerator, which gets the batches that `kind` says. `notify` gets a warning if it fails later.
    pub fn with_accelerator(
        self,
        accelerator: Box<dyn Accelerator + 'a>,
        kind: BackendKind,
        notify: fn(&str),
    ) -> Self {
        Hybrid { state: State::Shared(Shared::new(accelerator, kind)), notify, ..self }
    }

    /// Adds the first of `accelerators` that computes what the CPU does, compared on one layer or a few; if none does, the CPU
    /// runs alone. `notify` gets a warning unless it is the very first. Each is created after the previous one is dropped.
    pub fn with_first_verified(
        mut self,
        weights: &Weights<'_>,
        accelerators: impl Iterator<Item = Result<Box<dyn Accelerator + 'a>, String>>,
        kind: BackendKind,
        notify: fn(&str),
    ) -> Self {
        let mut rejected = None;
        for accelerator in accelerators {
            let verified = accelerator.and_then(|mut accelerator| {
                self_test::compare(weights, &mut self.cpu, &mut *accelerator)?;
                accelerator.head(0..0);
                Ok(accelerator)
            });
            // The test leaves no logits.
            Sequence::head(&mut self.cpu, 0..0);
            match verified {
                Err(reason) => rejected = Some(reason),
                Ok(accelerator) => {
                    if let Some(reason) = rejected {
                        notify(&format!("{reason}; continuing with the GPU's simplest kernels"));
                    }
                    return self.with_accelerator(accelerator, kind, notify);
                }
            }
        }
        if let Some(reason) = rejected {
            notify(&fallback(&reason));
        }
        self
    }

    /// What runs now: [`BackendKind::Cpu`] once a GPU has failed.
    pub fn kind(&self) -> BackendKind {
        self.state.shared().map_or(BackendKind::Cpu, |shared| shared.kind)
    }

    /// What computes now, in words.
    pub fn processors(&self) -> String {
        self.kind().processors(&self.cpu.kernels())
    }

    /// Work of the GPU so far, and bytes that it reads for a token at `position`.
    pub fn gpu_work(&self, position: usize) -> Option<GpuWork> {
        self.state.shared()?.accelerator.work(position)
    }

    /// The CPU's part.
    pub fn cpu(&self) -> &Cpu<'a, 'a, 'a, T> {
        &self.cpu
    }

    /// Replaces the adapters of both processors. Without effect on what the caches hold: the session is empty.
    pub(crate) fn set_adapters(&mut self, adapters: &[WeightedAdapter<'a>]) -> Result<(), AdapterError> {
        self.cpu.set_adapters(adapters)?;
        if let State::Shared(shared) = &mut self.state {
            shared.truncate(&self.cpu, 0);
            if let Err(reason) = shared.accelerator.set_adapters(adapters) {
                self.give_up(&reason);
            }
        }
        Ok(())
    }

    /// Times both processors (the CPU unless `cpu` is known) before the first batch; `None` without an accelerator or if it
    /// fails.
    pub(crate) fn measure(&mut self, cpu: Option<SecondsPerToken>) -> Option<BackendTimings> {
        let prompt = measure::prompt(&self.limits());
        let State::Shared(shared) = &mut self.state else { return None };
        let gpu = measure::speeds(&mut *shared.accelerator);
        let cpu = cpu.unwrap_or_else(|| measure::speeds(&mut self.cpu));
        shared.accelerator_cached.end = prompt;
        let start = Instant::now();
        self.bring_to_cpu(prompt);
        let handover = start.elapsed().as_secs_f64() / prompt as f64;
        Sequence::head(&mut self.cpu, 0..0);
        let State::Shared(shared) = &mut self.state else { return None };
        shared.truncate(&self.cpu, 0);
        shared.accelerator.head(0..0);
        Some(BackendTimings { cpu, gpu, handover })
    }

    /// Changes which batches the accelerator gets; [`BackendKind::Cpu`] drops it.
    pub(crate) fn assign(&mut self, kind: BackendKind) {
        match &mut self.state {
            State::Shared(shared) if kind.has_gpu() => shared.kind = kind,
            _ => self.state.drop_accelerator(),
        }
    }

    /// Lends the CPU once it holds the keys and values that a sequence of `positions` tokens needs; `None` where they would have
    /// to be recomputed.
    pub(crate) fn with_cache<R>(
        &mut self,
        positions: usize,
        work: impl FnOnce(&mut Cpu<'a, 'a, 'a, T>) -> R,
    ) -> Option<R> {
        // The device runs in order: the copy comes after the requested logits.
        self.wait();
        let cached = self.copy_to_cpu(positions);
        let complete = cached.has(positions) && resumes(&self.cpu, positions);
        complete.then(|| work(&mut self.cpu))
    }

    /// Lends the CPU to `fill`, which stores the keys and values that a sequence of `positions` tokens needs.
    pub(crate) fn fill_cache<E>(
        &mut self,
        positions: usize,
        fill: impl FnOnce(&mut Cpu<'a, 'a, 'a, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let filled = fill(&mut self.cpu);
        let positions = if filled.is_ok() { positions } else { 0 };
        let cached = Cached::copied(self.cpu.plan().config(), positions);
        match &mut self.state {
            State::CpuOnly { lowest } => *lowest = cached.lowest,
            State::Shared(shared) => {
                (shared.cpu_cached, shared.accelerator_cached) = (cached, Cached::default());
            }
            State::Lost { cpu_cached, .. } => *cpu_cached = cached,
        }
        filled
    }

    /// Continues without the accelerator, with a warning.
    fn give_up(&mut self, reason: &str) {
        self.state.drop_accelerator();
        (self.notify)(&fallback(reason));
    }

    /// Runs tokens of the history on the CPU, in batches.
    fn compute(&mut self, positions: Range<usize>) {
        let tokens = self.cpu.history()[positions.clone()].to_vec();
        let mut position = positions.start;
        for tokens in tokens.chunks(self.limits().batch) {
            forward(&mut self.cpu, &Batch { tokens, position });
            position += tokens.len();
        }
    }

    /// Runs what the CPU's cache lacks of a sequence of `position` tokens: what it holds then.
    fn complete(&mut self, cached: Cached, position: usize) -> Cached {
        let cached = cached.truncated(position, |end| resumes(&self.cpu, end));
        self.compute(cached.end..position);
        Cached { end: position, ..cached }
    }

    /// Copies keys and values that a sequence of `position` tokens needs to the CPU, as far as that is possible: what it holds
    /// then.
    fn copy_to_cpu(&mut self, position: usize) -> Cached {
        match &mut self.state {
            State::CpuOnly { lowest } => Cached { lowest: *lowest, end: usize::MAX },
            State::Lost { cpu_cached, .. } => *cpu_cached,
            State::Shared(shared) => {
                let copied = shared.copy_to_cpu(&mut self.cpu, position);
                let cached = shared.cpu_cached;
                if let Err(reason) = copied {
                    self.give_up(&reason);
                }
                cached
            }
        }
    }

    /// Gives the CPU keys and values that a sequence of `position` tokens needs.
    fn bring_to_cpu(&mut self, position: usize) {
        let cached = self.copy_to_cpu(position);
        let cached = self.complete(cached, position);
        match &mut self.state {
            State::CpuOnly { lowest } => *lowest = cached.lowest,
            State::Lost { cpu_cached, .. } => *cpu_cached = cached,
            State::Shared(shared) => shared.cpu_cached = cached,
        }
    }

    /// Waits for the accelerator's logits, and gives it up if it fails to deliver them.
    fn wait(&mut self) {
        let State::Shared(Shared { accelerator, last: LastBatch::Accelerator(batch, logits), .. }) =
            &mut self.state
        else {
            return;
        };
        match *logits {
            Logits::Ready | Logits::Sampled => return,
            Logits::Skipped if !batch.rows.is_empty() => {
                let (start, end) = (batch.positions.start, batch.positions.end);
                let tokens = &self.cpu.history()[start..end];
                forward(&mut **accelerator, &Batch { tokens, position: start });
                accelerator.head(batch.rows.clone());
                *logits = Logits::Pending;
            }
            Logits::Skipped | Logits::Pending => {}
        }
        let finite = accelerator.logits().iter().all(|logit| logit.is_finite());
        let failure = accelerator.failure();
        match failure.or_else(|| (!finite).then(|| "the GPU returned logits that are not finite".into())) {
            Some(reason) => self.give_up(&reason),
            None if *logits == Logits::Pending => *logits = Logits::Ready,
            None => {}
        }
    }

    /// Makes the logits of the last batch available: waits for the accelerator, or recomputes them if it failed.
    fn finish_logits(&mut self) {
        self.wait();
        match &self.state {
            State::Lost { batch, .. } if batch.rows.is_empty() => Sequence::head(&mut self.cpu, 0..0),
            _ => self.recompute_lost(),
        }
    }

    /// Has the accelerator sample, if it decodes and nobody has read the logits.
    fn sample_on_accelerator(
        &mut self,
        sampler: &mut Sampler<'_>,
        row: usize,
        position: usize,
    ) -> Option<Token> {
        let State::Shared(Shared { accelerator, kind, last: LastBatch::Accelerator(batch, logits), .. }) =
            &mut self.state
        else {
            return None;
        };
        let last = batch.positions.len().checked_sub(1)?;
        let unread = matches!(logits, Logits::Pending | Logits::Skipped);
        if !kind.decodes_on_gpu() || !unread || row != 0 || batch.rows != (last..last + 1) {
            return None;
        }
        match accelerator.sample(sampler, &self.cpu.history()[..position]) {
            Ok(sampled) => {
                if sampled.is_some() {
                    *logits = Logits::Sampled;
                }
                sampled
            }
            Err(reason) => {
                self.give_up(&reason);
                None
            }
        }
    }
}

/// The warning that an accelerator is no longer used, on one line: a driver's message may have several.
pub(crate) fn fallback(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    format!("{}; continuing on the CPU", words.join(" "))
}

impl<T: ThreadPool> Sequence for Hybrid<'_, T> {
    fn limits(&self) -> Limits {
        self.cpu.limits()
    }

    fn history(&mut self) -> &mut [Token] {
        self.cpu.history()
    }

    fn history_and_logits(&mut self) -> (&[Token], &mut [f32]) {
        self.finish_logits();
        match &mut self.state {
            State::Shared(Shared { accelerator, last: LastBatch::Accelerator(..), .. }) => {
                (self.cpu.history(), accelerator.logits())
            }
            _ => self.cpu.history_and_logits(),
        }
    }

    fn resumes_from(&self, position: usize) -> usize {
        let resumes = match &self.state {
            State::CpuOnly { lowest } => position >= *lowest && resumes(&self.cpu, position),
            // The CPU computes what it lacks.
            State::Lost { .. } => true,
            State::Shared(shared) => shared.cpu_has(&self.cpu, position) || shared.accelerator_has(position),
        };
        if resumes { position } else { 0 }
    }

    fn run(&mut self, batch: &Batch<'_>) {
        let (start, end) = (batch.position, batch.position + batch.tokens.len());
        match &mut self.state {
            State::CpuOnly { lowest } => {
                *lowest = (*lowest).min(start);
                return self.cpu.run(batch);
            }
            State::Lost { cpu_cached, .. } => {
                let cached = *cpu_cached;
                let Cached { lowest, .. } = self.complete(cached, start);
                self.state = State::CpuOnly { lowest };
                return self.cpu.run(batch);
            }
            State::Shared(shared) => {
                // A session that was rewound runs a batch before the end of the caches.
                shared.truncate(&self.cpu, start);
                if shared.takes(batch.tokens.len()) {
                    return shared.run(&mut self.cpu, batch);
                }
                shared.last = LastBatch::Cpu;
            }
        }
        self.bring_to_cpu(start);
        self.cpu.run(batch);
        if let State::Shared(shared) = &mut self.state {
            shared.cpu_cached.end = end;
        }
    }

    fn head(&mut self, rows: Range<usize>) {
        match &mut self.state {
            State::Lost { batch, .. } => batch.rows = rows,
            State::Shared(Shared { accelerator, last: LastBatch::Accelerator(batch, logits), .. }) => {
                batch.rows = rows.clone();
                *logits = match logits {
                    Logits::Pending | Logits::Ready => {
                        accelerator.head(rows);
                        Logits::Pending
                    }
                    // The accelerator is past the batch: they are computed if someone reads them.
                    Logits::Sampled | Logits::Skipped => Logits::Skipped,
                };
            }
            _ => Sequence::head(&mut self.cpu, rows),
        }
    }

    fn hidden_states(&mut self, rows: Range<usize>) -> &[f32] {
        self.bring_residual(rows.clone());
        self.cpu.hidden_states(rows)
    }

    fn decodes_ahead(&self) -> bool {
        self.state.shared().is_some_and(Shared::decodes_ahead)
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Token {
        if let Some(token) = self.sample_on_accelerator(sampler, row, position) {
            return token;
        }
        self.finish_logits();
        let vocab = self.limits().vocab;
        match &mut self.state {
            State::Shared(Shared { accelerator, last: LastBatch::Accelerator(..), .. }) => {
                let row = accelerator.logits().get_mut(row * vocab..(row + 1) * vocab);
                self.cpu.draw(sampler, row.unwrap_or(&mut []), position)
            }
            _ => self.cpu.sample(sampler, row, position),
        }
    }
}

//! Who runs a sequence, who holds its KV cache, and where the logits of the last batch are.

use crate::accelerator::Accelerator;
use crate::backend::BackendKind;
use std::ops::Range;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::Config;
use thimble_runtime::kernels::{CHUNK, KvHead, KvHeadMut, ThreadPool};
use thimble_runtime::model::{Batch, forward};
use thimble_runtime::sequence::Sequence;

/// Batches of at least this many tokens count as a prompt. Smaller ones are decoded tokens with drafts, or too short to pay
/// for copying the cache.
const MIN_PROMPT: usize = 32;

/// The processors of a sequence.
pub(super) enum State<'a> {
    /// The CPU runs everything and holds the whole cache.
    CpuOnly {
        /// See [`Cached::lowest`].
        lowest: usize,
    },
    /// The CPU and an accelerator share the work.
    Shared(Shared<'a>),
    /// The accelerator ran the last batch and then failed: the CPU has to recompute what only the accelerator held.
    Lost {
        /// What the CPU's cache holds.
        cpu_cached: Cached,
        /// The batch whose logits have to be recomputed if anyone asks for them.
        batch: Requested,
    },
}

/// An accelerator beside the CPU.
pub(super) struct Shared<'a> {
    pub(super) accelerator: Box<dyn Accelerator + 'a>,
    /// Which batches go to the accelerator.
    pub(super) kind: BackendKind,
    /// What the CPU's cache holds.
    pub(super) cpu_cached: Cached,
    /// What the accelerator's cache holds.
    pub(super) accelerator_cached: Cached,
    pub(super) last: LastBatch,
}

/// The positions at which a cache was written so that a sequence can go on: 0, and those from `lowest` to `end`.
#[derive(Clone, Copy, Default)]
pub(super) struct Cached {
    /// More than 0 only in a model with sliding windows, whose layers a copy fills from the window on.
    pub(super) lowest: usize,
    /// Number of positions.
    pub(super) end: usize,
}

impl Cached {
    /// What a copy, or a file, of all that a sequence of `end` positions needs fills.
    pub(super) fn copied(config: &Config, end: usize) -> Cached {
        Cached { lowest: if config.pattern.any_sliding() { end } else { 0 }, end }
    }

    /// Whether `position` is one of them.
    pub(super) fn has(&self, position: usize) -> bool {
        position == 0 || (self.lowest..=self.end).contains(&position)
    }

    /// What is left without the positions from `position` on; nothing if the cache no longer `resumes` there.
    pub(super) fn truncated(self, position: usize, resumes: impl Fn(usize) -> bool) -> Cached {
        let end = self.end.min(position);
        let goes_on = end > 0 && self.has(end) && resumes(end);
        if goes_on { Cached { end, ..self } } else { Cached::default() }
    }
}

/// Whether the CPU's cache keeps all that a token at `position` attends to.
pub(super) fn resumes<T: ThreadPool>(cpu: &Cpu<'_, '_, '_, T>, position: usize) -> bool {
    cpu.resumes_from(position) == position
}

/// Who ran the last batch.
pub(super) enum LastBatch {
    /// The CPU, or there was none yet: the logits are the CPU's.
    Cpu,
    /// The accelerator.
    Accelerator(Requested, Logits),
}

/// Positions of a batch, and the rows of its logits that were requested.
#[derive(Clone)]
pub(super) struct Requested {
    pub(super) positions: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// What became of an accelerator's logits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Logits {
    /// On their way, or not requested yet.
    Pending,
    /// Complete and finite.
    Ready,
    /// Consumed: the accelerator sampled the next token from them and runs it already.
    Sampled,
    /// Never computed: the accelerator sampled this token itself and ran on. It can sample the next one.
    Skipped,
}

impl<'a> State<'a> {
    /// Ends the use of the accelerator.
    pub(super) fn drop_accelerator(&mut self) {
        *self = match std::mem::replace(self, State::CpuOnly { lowest: 0 }) {
            State::Shared(Shared { cpu_cached, last: LastBatch::Accelerator(batch, _), .. }) => {
                State::Lost { cpu_cached, batch }
            }
            State::Shared(Shared { cpu_cached, .. }) => State::CpuOnly { lowest: cpu_cached.lowest },
            other => other,
        };
    }

    pub(super) fn shared(&self) -> Option<&Shared<'a>> {
        match self {
            State::Shared(shared) => Some(shared),
            State::CpuOnly { .. } | State::Lost { .. } => None,
        }
    }
}

impl<'a> Shared<'a> {
    pub(super) fn new(accelerator: Box<dyn Accelerator + 'a>, kind: BackendKind) -> Self {
        let (cpu_cached, accelerator_cached) = (Cached::default(), Cached::default());
        Shared { accelerator, kind, cpu_cached, accelerator_cached, last: LastBatch::Cpu }
    }

    /// Whether the accelerator runs a batch of so many tokens.
    pub(super) fn takes(&self, tokens: usize) -> bool {
        let (prompts, decoding) = self.kind.on_gpu();
        if tokens < MIN_PROMPT { decoding } else { prompts }
    }

    /// Whether the accelerator samples, and is past the last batch.
    pub(super) fn decodes_ahead(&self) -> bool {
        matches!(self.last, LastBatch::Accelerator(_, Logits::Sampled | Logits::Skipped))
    }

    /// Drops all positions from `position` on.
    pub(super) fn truncate<T: ThreadPool>(&mut self, cpu: &Cpu<'_, '_, '_, T>, position: usize) {
        self.cpu_cached = self.cpu_cached.truncated(position, |end| resumes(cpu, end));
        self.accelerator_cached =
            self.accelerator_cached.truncated(position, |end| self.accelerator.resumes_at(end));
    }

    /// Whether the CPU's cache has all that a token at `position` attends to.
    pub(super) fn cpu_has<T: ThreadPool>(&self, cpu: &Cpu<'_, '_, '_, T>, position: usize) -> bool {
        self.cpu_cached.has(position) && resumes(cpu, position)
    }

    /// The same for the accelerator's cache.
    pub(super) fn accelerator_has(&self, position: usize) -> bool {
        self.accelerator_cached.has(position) && self.accelerator.resumes_at(position)
    }

    /// Runs `batch` on the accelerator, which first gets what its cache lacks.
    pub(super) fn run<T: ThreadPool>(&mut self, cpu: &mut Cpu<'_, '_, '_, T>, batch: &Batch<'_>) {
        let (start, end) = (batch.position, batch.position + batch.tokens.len());
        let sampled = self.decodes_ahead() && self.accelerator_cached.end == start;
        self.bring_to_accelerator(cpu, start);
        let logits = if sampled && self.accelerator.continue_with(batch) {
            Logits::Skipped
        } else {
            forward(&mut *self.accelerator, batch);
            Logits::Pending
        };
        self.accelerator_cached.end = end;
        self.last = LastBatch::Accelerator(Requested { positions: start..end, rows: 0..0 }, logits);
    }

    /// Copies keys and values that a sequence of `position` tokens needs to the CPU, as far as that is possible.
    ///
    /// # Errors
    /// The failure of the accelerator.
    pub(super) fn copy_to_cpu<T: ThreadPool>(
        &mut self,
        cpu: &mut Cpu<'_, '_, '_, T>,
        position: usize,
    ) -> Result<(), String> {
        let missing = self.cpu_cached.end..position;
        if missing.is_empty() || !self.accelerator_has(position) {
            return Ok(());
        }
        let lowest = lowest_after(self.cpu_cached, position, |end| self.accelerator_has(end));
        let chunks = chunks(*cpu.plan().config(), missing.clone(), lowest);
        cpu.reserve(missing.clone());
        let copied = self.accelerator.read_cache(&chunks, &mut |layer, head, part| {
            let to = cpu.cache(layer, head, chunks(layer));
            to.keys.copy_from_slice(part.keys);
            to.values.copy_from_slice(part.values);
            to.key_scales.copy_from_slice(part.key_scales);
            to.value_scales.copy_from_slice(part.value_scales);
        });
        let failure = self.accelerator.failure();
        if copied && failure.is_none() {
            let copied = Cached::copied(cpu.plan().config(), position);
            self.cpu_cached = Cached { lowest: copied.lowest.min(lowest), end: position };
            return Ok(());
        }
        // After a failure, the copied chunks may hold anything.
        let end = if copied { missing.start / CHUNK * CHUNK } else { missing.start };
        self.cpu_cached = self.cpu_cached.truncated(end, |end| resumes(cpu, end));
        failure.map_or(Ok(()), Err)
    }

    /// Copies keys and values that a sequence of `position` tokens needs to the accelerator, or has it compute them.
    fn bring_to_accelerator<T: ThreadPool>(&mut self, cpu: &mut Cpu<'_, '_, '_, T>, position: usize) {
        let missing = self.accelerator_cached.end..position;
        if missing.is_empty() {
            return;
        }
        if self.cpu_has(cpu, position) {
            let config = *cpu.plan().config();
            let lowest = lowest_after(self.accelerator_cached, position, |end| self.cpu_has(cpu, end));
            let chunks = chunks(config, missing.clone(), lowest);
            self.accelerator.reserve(missing.clone());
            let (layers, heads) = (config.layers, config.kv_heads);
            let mut pairs = (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head)));
            let copied = pairs.all(|(layer, head)| {
                let KvHeadMut { kind, keys, values, key_scales, value_scales } =
                    cpu.cache(layer, head, chunks(layer));
                let part = KvHead { kind, keys, values, key_scales, value_scales };
                self.accelerator.write_cache(chunks(layer), layer, head, part)
            });
            if copied {
                let copied = Cached::copied(&config, position);
                self.accelerator_cached = Cached { lowest: copied.lowest.min(lowest), end: position };
                return;
            }
        }
        let accelerator = &mut *self.accelerator;
        let cached = self.accelerator_cached.truncated(missing.start, |end| accelerator.resumes_at(end));
        let batch = accelerator.batch();
        for (i, tokens) in cpu.history()[cached.end..position].chunks(batch).enumerate() {
            forward(accelerator, &Batch { tokens, position: cached.end + i * batch });
        }
        self.accelerator_cached = Cached { end: position, ..cached };
    }
}

/// [`Cached::lowest`] of a cache with `cached` after it gets the positions up to `position` in a model with sliding windows:
/// the last whole chunk, so that a KV file can be written, unless the source no longer `has` what that needs.
fn lowest_after(cached: Cached, position: usize, has: impl Fn(usize) -> bool) -> usize {
    let whole = position / CHUNK * CHUNK;
    if has(whole) { whole.max(cached.lowest) } else { position }
}

/// The chunks of each layer that a copy of `missing` positions takes. A layer with a sliding window takes what tokens from
/// position `lowest` on attend to.
fn chunks(config: Config, missing: Range<usize>, lowest: usize) -> impl Fn(usize) -> Range<usize> {
    move |layer| {
        let first = config.layer(layer).window.map_or(0, |window| (lowest + 1).saturating_sub(window));
        missing.start.max(first.min(missing.end)) / CHUNK..missing.end.div_ceil(CHUNK)
    }
}

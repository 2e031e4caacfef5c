//! Who runs a sequence, who holds its KV cache, and where the logits of the last batch are.

use crate::accelerator::Accelerator;
use crate::backend::BackendKind;
use std::ops::Range;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::kernels::{CHUNK, KvHead, KvHeadMut, ThreadPool};
use thimble_runtime::model::{Batch, forward};
use thimble_runtime::sequence::Sequence;

/// Batches of at least this many tokens count as a prompt. Smaller ones are decoded tokens with drafts, or too short to pay
/// for copying the cache.
const MIN_PROMPT: usize = 32;

/// The processors of a sequence.
pub(super) enum State<'a> {
    /// The CPU runs everything and holds the whole cache.
    CpuOnly,
    /// The CPU and an accelerator share the work.
    Shared(Shared<'a>),
    /// The accelerator ran the last batch and then failed: the CPU has to recompute what only the accelerator held.
    Lost {
        /// Positions that the CPU's cache holds, from the front.
        cpu_cached: usize,
        /// The batch whose logits have to be recomputed if anyone asks for them.
        batch: Requested,
    },
}

/// An accelerator beside the CPU.
pub(super) struct Shared<'a> {
    pub(super) accelerator: Box<dyn Accelerator + 'a>,
    /// Which batches go to the accelerator.
    pub(super) kind: BackendKind,
    /// Positions that the CPU's cache holds, from the front.
    pub(super) cpu_cached: usize,
    /// The same for the accelerator's cache.
    pub(super) accelerator_cached: usize,
    pub(super) last: LastBatch,
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
        *self = match std::mem::replace(self, State::CpuOnly) {
            State::Shared(Shared { cpu_cached, last: LastBatch::Accelerator(batch, _), .. }) => {
                State::Lost { cpu_cached, batch }
            }
            State::Shared(_) => State::CpuOnly,
            other => other,
        };
    }

    pub(super) fn shared(&self) -> Option<&Shared<'a>> {
        match self {
            State::Shared(shared) => Some(shared),
            State::CpuOnly | State::Lost { .. } => None,
        }
    }
}

impl<'a> Shared<'a> {
    pub(super) fn new(accelerator: Box<dyn Accelerator + 'a>, kind: BackendKind) -> Self {
        Shared { accelerator, kind, cpu_cached: 0, accelerator_cached: 0, last: LastBatch::Cpu }
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
    pub(super) fn truncate(&mut self, position: usize) {
        self.cpu_cached = self.cpu_cached.min(position);
        self.accelerator_cached = self.accelerator_cached.min(position);
    }

    /// Runs `batch` on the accelerator, which first gets what its cache lacks.
    pub(super) fn run<T: ThreadPool>(&mut self, cpu: &mut Cpu<'_, '_, '_, T>, batch: &Batch<'_>) {
        let (start, end) = (batch.position, batch.position + batch.tokens.len());
        let sampled = self.decodes_ahead() && self.accelerator_cached == start;
        self.bring_to_accelerator(cpu, start);
        let logits = if sampled && self.accelerator.continue_with(batch) {
            Logits::Skipped
        } else {
            forward(&mut *self.accelerator, batch);
            Logits::Pending
        };
        self.accelerator_cached = end;
        self.last = LastBatch::Accelerator(Requested { positions: start..end, rows: 0..0 }, logits);
    }

    /// Copies keys and values of all positions before `position` to the CPU, as far as that is possible.
    ///
    /// # Errors
    /// The failure of the accelerator.
    pub(super) fn copy_to_cpu<T: ThreadPool>(
        &mut self,
        cpu: &mut Cpu<'_, '_, '_, T>,
        position: usize,
    ) -> Result<(), String> {
        if self.cpu_cached >= position {
            return Ok(());
        }
        let chunks = chunks(self.cpu_cached..position);
        let copied = self.accelerator.read_cache(chunks.clone(), &mut |layer, head, part| {
            let to = cpu.cache(layer, head, chunks.clone());
            to.keys.copy_from_slice(part.keys);
            to.values.copy_from_slice(part.values);
            to.key_scales.copy_from_slice(part.key_scales);
            to.value_scales.copy_from_slice(part.value_scales);
        });
        if let Some(reason) = self.accelerator.failure() {
            // The copied chunks may hold anything.
            self.cpu_cached = chunks.start * CHUNK;
            return Err(reason);
        }
        if copied {
            self.cpu_cached = position;
        }
        Ok(())
    }

    /// Copies keys and values of all positions before `position` to the accelerator, or has it compute them.
    fn bring_to_accelerator<T: ThreadPool>(&mut self, cpu: &mut Cpu<'_, '_, '_, T>, position: usize) {
        let missing = self.accelerator_cached..position;
        if missing.is_empty() {
            return;
        }
        let config = cpu.plan().config();
        let (layers, heads) = (config.layers, config.kv_heads);
        let chunks = chunks(missing.clone());
        let mut pairs = (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head)));
        let copied = pairs.all(|(layer, head)| {
            let KvHeadMut { kind, keys, values, key_scales, value_scales } =
                cpu.cache(layer, head, chunks.clone());
            let part = KvHead { kind, keys, values, key_scales, value_scales };
            self.accelerator.write_cache(chunks.clone(), layer, head, part)
        });
        if !copied {
            let batch = self.accelerator.batch();
            for (i, tokens) in cpu.history()[missing.clone()].chunks(batch).enumerate() {
                forward(&mut *self.accelerator, &Batch { tokens, position: missing.start + i * batch });
            }
        }
    }
}

/// The chunks of the cache that hold these positions.
fn chunks(positions: Range<usize>) -> Range<usize> {
    positions.start / CHUNK..positions.end.div_ceil(CHUNK)
}

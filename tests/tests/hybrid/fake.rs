//! An accelerator that is a second CPU and fails when a test wants it to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thimble_host::{Accelerator, CachePart, LayerChunks};
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::kernels::{KvHead, KvHeadMut, SingleThread};
use thimble_runtime::model::{Backend, Batch, forward};
use thimble_runtime::sampler::{Candidate, Sampler};
use thimble_runtime::sequence::Sequence;

/// What an accelerator does beside computing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// Heads from which on it fails.
    pub(crate) lost_at: Option<usize>,
    /// Its logits are no numbers from then on, and it does not know.
    pub(crate) nonsense_at: Option<usize>,
    /// Its logits are reversed.
    pub(crate) wrong: bool,
    /// Its cache lies otherwise than the CPU's.
    pub(crate) opaque: bool,
    /// It samples tokens and runs them.
    pub(crate) draws: bool,
    /// Tokens that it ran.
    pub(crate) ran: Arc<AtomicUsize>,
    /// Tokens that it drew.
    pub(crate) drew: Arc<AtomicUsize>,
    /// Blocks of the cache that it gave, and took.
    pub(crate) moved: [Arc<AtomicUsize>; 2],
}

pub(crate) struct Fake<'a> {
    pub(crate) cpu: Cpu<'a, 'a, 'a, SingleThread>,
    pub(crate) habits: Habits,
    pub(crate) heads: usize,
    pub(crate) changed: Vec<f32>,
    /// Where the last batch ends.
    pub(crate) end: usize,
    /// The token that was drawn last, and run already.
    pub(crate) drawn: Option<(Token, usize)>,
}

impl Fake<'_> {
    fn past(&self, at: Option<usize>) -> bool {
        at.is_some_and(|at| self.heads > at)
    }
}

impl Backend for Fake<'_> {
    fn batch(&self) -> usize {
        self.cpu.batch()
    }
    fn context(&self) -> usize {
        self.cpu.context()
    }
    fn logit_rows(&self) -> usize {
        self.cpu.logit_rows()
    }
    fn layers(&self) -> usize {
        self.cpu.layers()
    }
    fn embed(&mut self, batch: &Batch<'_>) {
        self.habits.ran.fetch_add(batch.tokens.len(), Ordering::Relaxed);
        (self.end, self.drawn) = (batch.position + batch.tokens.len(), None);
        self.cpu.embed(batch);
    }
    fn project(&mut self, layer: usize) {
        self.cpu.project(layer);
    }
    fn attend(&mut self, layer: usize) {
        self.cpu.attend(layer);
    }
    fn attention_output(&mut self, layer: usize) {
        self.cpu.attention_output(layer);
    }
    fn gate_up(&mut self, layer: usize) {
        self.cpu.gate_up(layer);
    }
    fn down(&mut self, layer: usize) {
        self.cpu.down(layer);
    }
    fn head(&mut self, rows: Range<usize>) {
        self.heads += 1;
        Backend::head(&mut self.cpu, rows);
        self.changed = self.cpu.logits().to_vec();
        if self.habits.wrong {
            self.changed.reverse();
        }
        if self.past(self.habits.lost_at) {
            self.changed.fill(0.0);
        }
        if self.past(self.habits.nonsense_at) {
            self.changed.fill(f32::NAN);
        }
    }
    fn logits(&mut self) -> &mut [f32] {
        &mut self.changed
    }
}

impl Accelerator for Fake<'_> {
    fn failure(&self) -> Option<String> {
        self.past(self.habits.lost_at).then(|| "the fake was lost".to_owned())
    }

    fn read_residual(&mut self, rows: Range<usize>, out: &mut [f32]) {
        self.heads += 1;
        out.copy_from_slice(self.cpu.residual(rows));
        if self.past(self.habits.lost_at) {
            out.fill(0.0);
        }
        if self.past(self.habits.nonsense_at) {
            out.fill(f32::NAN);
        }
    }

    fn resumes_at(&self, position: usize) -> bool {
        self.cpu.resumes_from(position) == position
    }

    fn reserve(&mut self, positions: Range<usize>) {
        self.cpu.reserve(positions);
    }

    fn read_cache(&mut self, chunks: &LayerChunks<'_>, each: &mut CachePart<'_>) -> bool {
        if self.habits.opaque {
            return false;
        }
        self.habits.moved[0].fetch_add(chunks(0).len(), Ordering::Relaxed);
        let config = *self.cpu.plan().config();
        for layer in 0..config.layers {
            for head in 0..config.kv_heads {
                let KvHeadMut { kind, keys, values, key_scales, value_scales } =
                    self.cpu.cache(layer, head, chunks(layer));
                if self.habits.lost_at.is_some_and(|at| self.heads > at) {
                    keys.fill(0xff);
                }
                each(layer, head, KvHead { kind, keys, values, key_scales, value_scales });
            }
        }
        true
    }

    fn write_cache(&mut self, chunks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
        if self.habits.opaque {
            return false;
        }
        if (layer, head) == (0, 0) {
            self.habits.moved[1].fetch_add(chunks.len(), Ordering::Relaxed);
        }
        let to = self.cpu.cache(layer, head, chunks);
        to.keys.copy_from_slice(part.keys);
        to.values.copy_from_slice(part.values);
        to.key_scales.copy_from_slice(part.key_scales);
        to.value_scales.copy_from_slice(part.value_scales);
        true
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, history: &[Token]) -> Result<Option<Token>, String> {
        if !self.habits.draws {
            return Ok(None);
        }
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if self.changed.iter().any(|logit| !logit.is_finite()) {
            return Err("its logits are not finite".into());
        }
        let mut candidates = vec![Candidate::default(); self.changed.len()];
        let token = sampler.sample(&mut self.changed, history, &mut candidates);
        let position = self.end;
        if position < self.context() {
            forward(self, &Batch { tokens: &[token], position });
            Backend::head(self, 0..1);
            self.drawn = Some((token, position));
        } else {
            self.changed.clear();
        }
        self.habits.drew.fetch_add(1, Ordering::Relaxed);
        Ok(Some(token))
    }

    fn continue_with(&mut self, batch: &Batch<'_>) -> bool {
        self.drawn.is_some_and(|(token, position)| (batch.tokens, batch.position) == (&[token], position))
    }
}

//! A sequence on the CPU, and on a GPU beside it where there is one.
//!
//! Each has a cache of keys and values in the same layout. Before a processor runs a batch it gets what it misses of
//! the cache from the other one, as a plain copy. The tokens lie in the CPU's memory, so that a session outlives its
//! GPU: what was only there is computed again.

use crate::backend::BackendKind;
use crate::measure::{self, BackendTimings, SecondsPerToken};
use crate::plan::processors;
use crate::self_test;
use std::ops::Range;
use std::time::Instant;
use thimble_runtime::Token;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::kernels::{CHUNK, KvHead, KvHeadMut, ThreadPool};
use thimble_runtime::model::{Backend, Batch, Weights, forward};
use thimble_runtime::sampler::Sampler;
use thimble_runtime::sequence::{Limits, Sequence};

/// Tokens from which a batch counts as a part of a prompt. Fewer are tokens that were decoded, with proposals behind
/// them, or so few that handing the cache over costs more than they do.
const PROMPT: usize = 32;

/// Receives a part of a cache: layer, key-value head, keys and values.
pub type CachePart<'a> = dyn FnMut(usize, usize, KvHead<'_>) + 'a;

/// What a GPU is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuWork {
    /// Dispatches so far.
    pub dispatches: u64,
    /// Bytes that a token reads.
    pub read_bytes: u64,
}

/// Another processor for the same model with the same context, batch and rows of logits. It can fail, and says so.
pub trait Accelerator: Backend + Send {
    /// Why it can no longer be used.
    fn failure(&self) -> Option<String>;

    /// Gives keys and values at the positions of `blocks`, 64 in each, or false where they lie otherwise than the CPU's.
    /// After a failure they are anything.
    fn read_cache(&mut self, blocks: Range<usize>, each: &mut CachePart<'_>) -> bool;

    /// Takes keys and values of one layer and head at the positions of `blocks`; false where they have to be computed.
    fn write_cache(&mut self, blocks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool;

    /// Dispatches since it was made, and bytes that a token at `position` reads; `None` where it has no such things.
    fn work(&self, _position: usize) -> Option<GpuWork> {
        None
    }

    /// Draws the next token, from the only row of logits asked for or behind the token that [`Accelerator::follow`] took up,
    /// and goes on with it. `history` is the whole sequence. `sampler` is left as if it had drawn. `None` where the host has
    /// to draw.
    ///
    /// # Errors
    /// What is wrong, as a clause.
    fn draw(&mut self, _sampler: &mut Sampler<'_>, _history: &[Token]) -> Result<Option<Token>, String> {
        Ok(None)
    }

    /// Whether `batch` is the token that it drew last and runs already: there are no logits behind it, only draws.
    fn follow(&mut self, _batch: &Batch<'_>) -> bool {
        false
    }
}

/// The processors of a session, and how far each one's cache reaches.
pub struct Hybrid<'a, T: ThreadPool> {
    cpu: Cpu<'a, 'a, 'a, T>,
    accelerator: Option<Box<dyn Accelerator + 'a>>,
    kind: BackendKind,
    /// Receives the line that says that the accelerator is no longer used.
    tell: fn(&str),
    /// Positions whose keys and values the CPU has, from the front.
    on_cpu: usize,
    /// The same for the accelerator.
    on_accelerator: usize,
    /// Positions of the last batch.
    batch: Range<usize>,
    /// Whether the accelerator ran it.
    by_accelerator: bool,
    /// Rows of its logits that were asked for.
    rows: Range<usize>,
    /// They are there, and sound, or used up by a draw.
    settled: bool,
    /// The accelerator draws, and is past the batch.
    ahead: bool,
}

impl<'a, T: ThreadPool> Hybrid<'a, T> {
    /// The CPU alone.
    pub fn new(cpu: Cpu<'a, 'a, 'a, T>) -> Self {
        Hybrid {
            cpu,
            accelerator: None,
            kind: BackendKind::Cpu,
            tell: |_| {},
            on_cpu: 0,
            on_accelerator: 0,
            batch: 0..0,
            by_accelerator: false,
            rows: 0..0,
            settled: false,
            ahead: false,
        }
    }

    /// The same with an accelerator, for what `kind` leaves to it. `tell` gets the line that says that it is no longer used.
    pub fn with_accelerator(
        self,
        accelerator: Box<dyn Accelerator + 'a>,
        kind: BackendKind,
        tell: fn(&str),
    ) -> Self {
        Hybrid { accelerator: Some(accelerator), kind, tell, ..self }
    }

    /// The same with the first of `accelerators` that computes what the CPU does, compared on a layer or a few: the CPU alone where
    /// none does. `tell` gets a line where it is not the very first. An accelerator is made when the one before is gone.
    pub fn with_first_sound(
        mut self,
        weights: &Weights<'_>,
        accelerators: impl Iterator<Item = Result<Box<dyn Accelerator + 'a>, String>>,
        kind: BackendKind,
        tell: fn(&str),
    ) -> Self {
        let mut wrong = None;
        for accelerator in accelerators {
            let compared = accelerator.and_then(|accelerator| {
                let accelerator = self.accelerator.insert(accelerator);
                self_test::compare(weights, &mut self.cpu, &mut **accelerator)
            });
            if let Err(reason) = compared {
                self.accelerator = None;
                wrong = Some(reason);
                continue;
            }
            if let Some(reason) = wrong {
                tell(&format!("{reason}: going on with the GPU's plainest kernels"));
            }
            self.empty_logits();
            return Hybrid { kind, tell, ..self };
        }
        self.empty_logits();
        if let Some(reason) = wrong {
            tell(&given_up(&reason));
        }
        self
    }

    /// What runs now: [`BackendKind::Cpu`] from the moment on when a GPU is given up.
    pub fn kind(&self) -> BackendKind {
        self.accelerator.as_ref().map_or(BackendKind::Cpu, |_| self.kind)
    }

    /// What computes now, in words.
    pub fn processors(&self) -> String {
        processors(self.kind(), &self.cpu.kernels())
    }

    /// What a GPU is asked to do: dispatches so far, and bytes for a token at `position`.
    pub fn gpu_work(&self, position: usize) -> Option<GpuWork> {
        self.accelerator.as_ref()?.work(position)
    }

    /// The CPU's part.
    pub fn cpu(&self) -> &Cpu<'a, 'a, 'a, T> {
        &self.cpu
    }

    /// No logits, on either side.
    fn empty_logits(&mut self) {
        Sequence::head(&mut self.cpu, 0..0);
        if let Some(accelerator) = &mut self.accelerator {
            accelerator.head(0..0);
        }
    }

    /// Times both processors, the CPU unless that is known, in front of the first batch; `None` without an accelerator or where it
    /// fails.
    pub(crate) fn measure(&mut self, cpu: Option<SecondsPerToken>) -> Option<BackendTimings> {
        let prompt = measure::prompt(&self.limits());
        let accelerator = self.accelerator.as_deref_mut()?;
        let gpu = measure::speeds(accelerator);
        let cpu = cpu.unwrap_or_else(|| measure::speeds(&mut self.cpu));
        self.on_accelerator = prompt;
        let start = Instant::now();
        self.bring_to_cpu(prompt);
        let handover = start.elapsed().as_secs_f64() / prompt as f64;
        (self.on_cpu, self.on_accelerator) = (0, 0);
        self.empty_logits();
        self.accelerator.is_some().then_some(BackendTimings { cpu, gpu, handover })
    }

    /// Leaves other work to the accelerator, or none.
    pub(crate) fn assign(&mut self, kind: BackendKind) {
        self.kind = kind;
        if !kind.has_gpu() {
            self.accelerator = None;
        }
    }

    /// Gives the accelerator up, with a line.
    pub(crate) fn dismiss(&mut self, reason: &str) {
        if self.accelerator.take().is_some() {
            (self.tell)(&given_up(reason));
        }
    }

    /// Lends the CPU, once it has keys and values of all positions in front of `positions`; `None` where they would have to
    /// be computed.
    pub(crate) fn with_cache<R>(
        &mut self,
        positions: usize,
        work: impl FnOnce(&mut Cpu<'a, 'a, 'a, T>) -> R,
    ) -> Option<R> {
        // The copy is behind the logits that were asked for.
        self.wait();
        let there = self.accelerator.is_none() && !self.by_accelerator;
        (there || self.copy_to_cpu(positions)).then(|| work(&mut self.cpu))
    }

    /// Lends the CPU to `fill`, which gives it keys and values of all positions in front of `positions`.
    pub(crate) fn fill_cache<E>(
        &mut self,
        positions: usize,
        fill: impl FnOnce(&mut Cpu<'a, 'a, 'a, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        (self.on_cpu, self.on_accelerator) = (0, 0);
        fill(&mut self.cpu)?;
        self.on_cpu = positions;
        Ok(())
    }

    /// Blocks of the cache from one position to another.
    fn blocks(positions: Range<usize>) -> Range<usize> {
        positions.start / CHUNK..positions.end.div_ceil(CHUNK)
    }

    /// Layers and key-value heads.
    fn parts(&self) -> (usize, usize) {
        let config = self.cpu.plan().config();
        (config.layers, config.kv_heads)
    }

    /// Runs tokens of the history on the CPU, in batches.
    fn compute(&mut self, positions: Range<usize>) {
        let tokens = self.cpu.history()[positions.clone()].to_vec();
        let mut position = positions.start;
        for tokens in tokens.chunks(self.limits().batch) {
            forward(&mut self.cpu, &Batch { tokens, position });
            position += tokens.len();
        }
        self.on_cpu = positions.end;
    }

    /// Copies keys and values of all positions in front of `position` to the CPU; whether it has them now.
    fn copy_to_cpu(&mut self, position: usize) -> bool {
        if self.on_cpu >= position {
            return true;
        }
        let Some(accelerator) = self.accelerator.as_mut() else { return false };
        let blocks = Self::blocks(self.on_cpu..position);
        let cpu = &mut self.cpu;
        let copied = accelerator.read_cache(blocks.clone(), &mut |layer, head, part| {
            let to = cpu.cache(layer, head, blocks.clone());
            to.keys.copy_from_slice(part.keys);
            to.values.copy_from_slice(part.values);
            to.key_scales.copy_from_slice(part.key_scales);
            to.value_scales.copy_from_slice(part.value_scales);
        });
        if let Some(reason) = accelerator.failure() {
            // Anything may have been copied.
            self.on_cpu = blocks.start * CHUNK;
            self.dismiss(&reason);
            return false;
        }
        if copied {
            self.on_cpu = position;
        }
        copied
    }

    /// Gives the CPU keys and values of all positions in front of `position`.
    fn bring_to_cpu(&mut self, position: usize) {
        if !self.copy_to_cpu(position) {
            self.compute(self.on_cpu..position);
        }
    }

    /// Gives the accelerator keys and values of all positions in front of `position`.
    fn bring_to_partner(&mut self, position: usize) {
        let missing = self.on_accelerator..position;
        let (layers, heads) = self.parts();
        let Some(accelerator) = self.accelerator.as_mut().filter(|_| !missing.is_empty()) else { return };
        let blocks = Self::blocks(missing.clone());
        let mut pairs = (0..layers).flat_map(|layer| (0..heads).map(move |head| (layer, head)));
        let copied = pairs.all(|(layer, head)| {
            let KvHeadMut { kind, keys, values, key_scales, value_scales } =
                self.cpu.cache(layer, head, blocks.clone());
            let part = KvHead { kind, keys, values, key_scales, value_scales };
            accelerator.write_cache(blocks.clone(), layer, head, part)
        });
        if !copied {
            let tokens = &self.cpu.history()[missing.clone()];
            let most = accelerator.batch();
            for (i, tokens) in tokens.chunks(most).enumerate() {
                forward(&mut **accelerator, &Batch { tokens, position: missing.start + i * most });
            }
        }
        self.on_accelerator = position;
    }

    /// Waits for the accelerator's logits; gives it up where they cannot be had.
    fn wait(&mut self) {
        let Some(accelerator) = self.accelerator.as_mut().filter(|_| self.by_accelerator && !self.settled)
        else {
            return;
        };
        if self.ahead && !self.rows.is_empty() {
            let tokens = &self.cpu.history()[self.batch.clone()];
            forward(&mut **accelerator, &Batch { tokens, position: self.batch.start });
            accelerator.head(self.rows.clone());
            self.ahead = false;
        }
        let sound = accelerator.logits().iter().all(|logit| logit.is_finite());
        let failure = accelerator.failure();
        match failure.or_else(|| (!sound).then(|| "the GPU gave logits that are no numbers".into())) {
            Some(reason) => self.dismiss(&reason),
            None => self.settled = true,
        }
    }

    /// Waits for the logits of the last batch. Where the accelerator was given up that ran it, the CPU makes them.
    fn settle(&mut self) {
        self.wait();
        if !self.by_accelerator || self.settled {
            return;
        }
        self.settled = true;
        if !self.rows.is_empty() {
            let start = self.batch.start;
            self.compute(self.on_cpu.min(start)..start);
            self.compute(self.batch.clone());
            self.by_accelerator = false;
        }
        Sequence::head(&mut self.cpu, self.rows.clone());
    }

    /// Has the accelerator draw, where it decodes and nobody has looked at the logits.
    fn draw_on_partner(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Option<Token> {
        let last = self.batch.len().checked_sub(1)?;
        let fits = (row, &self.rows) == (0, &(last..last + 1)) && self.kind().decodes_on_gpu();
        let accelerator =
            self.accelerator.as_mut().filter(|_| fits && self.by_accelerator && !self.settled)?;
        match accelerator.draw(sampler, &self.cpu.history()[..position]) {
            Ok(drawn) => {
                (self.settled, self.ahead) = (drawn.is_some(), self.ahead || drawn.is_some());
                drawn
            }
            Err(reason) => {
                self.dismiss(&reason);
                None
            }
        }
    }
}

/// The line that says that an accelerator is no longer used. A driver's message may have several lines.
pub(crate) fn given_up(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    format!("{}: going on with the CPU", words.join(" "))
}

impl<T: ThreadPool> Sequence for Hybrid<'_, T> {
    fn limits(&self) -> Limits {
        self.cpu.limits()
    }

    fn history(&mut self) -> &mut [Token] {
        self.cpu.history()
    }

    fn history_and_logits(&mut self) -> (&[Token], &mut [f32]) {
        self.settle();
        match self.accelerator.as_mut().filter(|_| self.by_accelerator) {
            Some(accelerator) => (self.cpu.history(), accelerator.logits()),
            None => self.cpu.history_and_logits(),
        }
    }

    fn run(&mut self, batch: &Batch<'_>) {
        if self.accelerator.is_none() && !self.by_accelerator {
            // Nothing is ever brought from elsewhere.
            return self.cpu.run(batch);
        }
        let (start, end) = (batch.position, batch.position + batch.tokens.len());
        // A batch in front of what is there: a session was rewound.
        (self.on_cpu, self.on_accelerator) = (self.on_cpu.min(start), self.on_accelerator.min(start));
        (self.batch, self.rows, self.settled) = (start..end, 0..0, false);
        let follows = self.ahead && self.by_accelerator && self.on_accelerator == start;
        self.ahead = false;
        let (prompts, tokens) = self.kind().on_gpu();
        self.by_accelerator = if batch.tokens.len() < PROMPT { tokens } else { prompts };
        if self.by_accelerator {
            self.bring_to_partner(start);
            if let Some(accelerator) = &mut self.accelerator {
                self.ahead = follows && accelerator.follow(batch);
                if !self.ahead {
                    forward(&mut **accelerator, batch);
                }
                self.on_accelerator = end;
            }
        } else {
            self.bring_to_cpu(start);
            self.cpu.run(batch);
            self.on_cpu = end;
        }
    }

    fn head(&mut self, rows: Range<usize>) {
        (self.rows, self.settled) = (rows.clone(), false);
        match self.accelerator.as_mut() {
            _ if !self.by_accelerator => Sequence::head(&mut self.cpu, rows),
            Some(accelerator) if !self.ahead => accelerator.head(rows),
            // Past the batch, or given up: they are made once somebody looks at them.
            _ => {}
        }
    }

    fn runs_ahead(&self) -> bool {
        self.ahead && self.accelerator.is_some()
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, row: usize, position: usize) -> Token {
        if let Some(token) = self.draw_on_partner(sampler, row, position) {
            return token;
        }
        self.settle();
        let vocab = self.limits().vocab;
        match self.accelerator.as_mut().filter(|_| self.by_accelerator) {
            Some(accelerator) => {
                let row = accelerator.logits().get_mut(row * vocab..(row + 1) * vocab);
                self.cpu.draw(sampler, row.unwrap_or(&mut []), position)
            }
            None => self.cpu.sample(sampler, row, position),
        }
    }
}

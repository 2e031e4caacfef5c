//! Tokens that are drawn on the device and fed back there; the host reads their ids behind.

use crate::GpuError;
use crate::backend::{Gpu, State, embed_groups, pass};
use crate::plan::RING;
use std::collections::VecDeque;
use thimble_runtime::Token;
use thimble_runtime::model::{Backend, Batch};
use thimble_runtime::sampler::{Pcg32, Sampling};

/// Submits whose ids can wait for the host.
const IN_FLIGHT: usize = 2;

/// Settings of sampling as the shader reads them.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct SamplerUniforms {
    vocab: u32,
    ring: u32,
    /// 1 / temperature, 0 for greedy.
    scale: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// Tokens that the penalties look at, 0 where there are no penalties.
    pub(crate) window: u32,
    unused: [u32; 2],
}

impl SamplerUniforms {
    pub(crate) const BYTES: u64 = size_of::<SamplerUniforms>() as u64;

    /// # Errors
    /// [`GpuError::Sampling`].
    pub(crate) fn new(sampling: &Sampling, vocab: usize, ring: usize) -> Result<SamplerUniforms, GpuError> {
        sampling.check()?;
        // The CPU's sampler looks at no more tokens than the vocabulary has.
        let window = match sampling.penalizes() {
            true => sampling.penalty_window.unwrap_or(usize::MAX).min(vocab),
            false => 0,
        };
        let scale = match sampling.temperature {
            0.0 => 0.0,
            // What is beyond f32 on either side would not multiply any more.
            temperature => (1.0 / temperature).clamp(1e-37, 1e37),
        };
        Ok(SamplerUniforms {
            vocab: vocab as u32,
            ring: ring as u32,
            scale,
            top_k: sampling.top_k.map_or(u32::MAX, |k| k.min(vocab) as u32),
            top_p: sampling.top_p.unwrap_or(1.0),
            min_p: sampling.min_p.unwrap_or(0.0),
            repetition: sampling.repetition_penalty,
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            window: window as u32,
            unused: [0; 2],
        })
    }
}

/// Set in the id of a token whose logits were not all finite.
const NOT_FINITE: u32 = 1 << 31;

/// A submit whose ids have not been read.
struct Pending {
    /// Position of the first token that was run.
    position: usize,
    count: usize,
    /// Which copy of the ring is its.
    copy: usize,
    submission: wgpu::SubmissionIndex,
}

/// Where drawing on the device stands.
pub(crate) struct Generation {
    settings: wgpu::Buffer,
    rng: wgpu::Buffer,
    /// How often each token is in the penalties' window, then the sequence.
    seen: wgpu::Buffer,
    pending: VecDeque<Pending>,
    /// The copy that the next submit takes.
    copy: usize,
    /// Position of the next token, where a generation has begun that nothing else has disturbed.
    pub(crate) position: Option<usize>,
    /// The device's own position counts for the next submit.
    pub(crate) goes_on: bool,
}

impl Generation {
    /// Whether another submit may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < IN_FLIGHT
    }

    pub(crate) fn new(settings: wgpu::Buffer, rng: wgpu::Buffer, seen: wgpu::Buffer) -> Generation {
        let pending = VecDeque::with_capacity(IN_FLIGHT);
        Generation { settings, rng, seen, pending, copy: 0, position: None, goes_on: false }
    }
}

impl Gpu {
    /// Puts the random numbers where `random` stands; they begin with seed 0.
    pub fn seed(&mut self, random: &Pcg32) {
        self.device.queue.write_buffer(&self.generation.rng, 0, bytemuck::bytes_of(&random.state()));
    }

    /// Begins to draw on the device: the last token of `history`, which is the whole sequence, is what
    /// [`Gpu::submit_tokens`] runs next. The seed of `sampling` is for [`Gpu::seed`].
    ///
    /// # Errors
    /// [`GpuError::Sampling`]; [`GpuError::Option`] for a history that is empty, too long, or of other tokens.
    pub fn begin(&mut self, history: &[Token], sampling: &Sampling) -> Result<(), GpuError> {
        let most = self.options.context.min(self.config.context);
        let Some((first, before)) = history.split_last().filter(|_| history.len() <= most) else {
            let (what, expected) = ("the number of tokens in front", format!("1 to {most}"));
            return Err(GpuError::Option { what, expected, found: history.len() as u64 });
        };
        let vocab = self.config.vocab as u32;
        if let Some(Token(found)) = history.iter().find(|token| token.0 >= vocab) {
            let (what, expected) = ("a token", format!("less than {vocab}"));
            return Err(GpuError::Option { what, expected, found: u64::from(*found) });
        }
        let position = before.len();
        self.set_sampling(sampling, history)?;
        self.submit(None);
        self.generation.goes_on = false;
        self.set_batch(&Batch { tokens: &[*first], position });
        (self.state.head_row, self.state.head_rows) = (0, 1);
        self.generation.position = Some(position);
        Ok(())
    }

    /// Whether the logits behind so many tokens, and no others, were asked for and wait to be computed.
    pub(crate) fn can_draw_behind(&self, length: usize) -> bool {
        let State { position, tokens, head_row, head_rows } = self.state;
        let is_last = head_rows == 1 && head_row + 1 == tokens;
        self.has_head && is_last && (position + tokens) as usize == length
    }

    /// Draws from the logits that were asked for: the position of the token drawn.
    pub(crate) fn draw_behind(&mut self) -> usize {
        let behind = (self.state.position + self.state.tokens) as usize;
        self.sample.record(pass(&self.device, &mut self.recording), [1, 1, 1]);
        self.logit_rows = 0;
        self.submit_ids(behind - 1, 1);
        self.generation.position = Some(behind);
        self.generation.goes_on = true;
        behind
    }

    /// Submits `count` more tokens, each drawn from the logits of the one before. Two submits may wait to be taken.
    ///
    /// # Errors
    /// [`GpuError::Option`] where nothing was begun, where `count` is more than 64 or does not fit the context, or where
    /// two submits wait.
    pub fn submit_tokens(&mut self, count: usize) -> Result<(), GpuError> {
        let start = self.generation.position.unwrap_or(self.options.context);
        let waiting = self.generation.pending.len() >= IN_FLIGHT;
        let most = if waiting { 0 } else { RING.min(self.options.context.saturating_sub(start)) };
        if !(1..=most).contains(&count) {
            let expected = format!("1 to {most} here");
            return Err(GpuError::Option { what: "tokens of one submit", expected, found: count as u64 });
        }
        for position in start..start + count {
            for step in &self.embed {
                step.record(pass(&self.device, &mut self.recording), embed_groups(&self.config, 1));
            }
            // The device has its own token and position; the one here says how far attention reaches.
            let batch = Batch { tokens: &[Token(0)], position };
            for layer in 0..self.layers.len() {
                self.project(layer, &batch);
                self.attend(layer, &batch);
                self.attention_output(layer, &batch);
                self.gate_up(layer, &batch);
                self.down(layer, &batch);
            }
            self.record_head(1);
            self.sample.record(pass(&self.device, &mut self.recording), [1, 1, 1]);
        }
        self.logit_rows = 0;
        self.submit_ids(start, count);
        self.generation.position = Some(start + count);
        self.generation.goes_on = true;
        Ok(())
    }

    /// Waits for the oldest submit and gives its tokens; none where no submit waits.
    ///
    /// # Errors
    /// [`GpuError::Device`], also where the logits of a token were not all finite.
    pub fn take_tokens(&mut self) -> Result<Vec<Token>, GpuError> {
        let Some(Pending { position, count, copy, submission }) = self.generation.pending.pop_front() else {
            return Ok(Vec::new());
        };
        let mut ids = [0u32; RING];
        let staging = self.buffers.ids_staging[copy].clone();
        self.read(&staging, Some(submission), bytemuck::cast_slice_mut(&mut ids));
        self.check()?;
        let taken = position..position + count;
        if taken.clone().any(|at| ids[at % RING] & NOT_FINITE != 0) {
            return Err(GpuError::Device { reason: "logits are no numbers".into() });
        }
        Ok(taken.map(|at| Token(ids[at % RING])).collect())
    }

    /// Settings for draws behind `history`, which is the whole sequence.
    pub(crate) fn set_sampling(&mut self, sampling: &Sampling, history: &[Token]) -> Result<(), GpuError> {
        let settings = SamplerUniforms::new(sampling, self.config.vocab, RING)?;
        while !self.generation.pending.is_empty() {
            self.take_tokens()?;
        }
        self.device.queue.write_buffer(&self.generation.settings, 0, bytemuck::bytes_of(&settings));
        let start = history.len().saturating_sub(settings.window as usize);
        if settings.window > 0 {
            let words = seen(&history[start..], self.config.vocab);
            let (counts, recent) = words.split_at(self.config.vocab);
            let at = (self.config.vocab + start) as u64 * 4;
            self.device.queue.write_buffer(&self.generation.seen, 0, bytemuck::cast_slice(counts));
            self.device.queue.write_buffer(&self.generation.seen, at, bytemuck::cast_slice(recent));
        }
        Ok(())
    }

    /// Submits what was recorded and a copy of the ring behind it.
    fn submit_ids(&mut self, position: usize, count: usize) {
        let copy = self.generation.copy;
        let (ids, staging) = (self.buffers.ids.clone(), self.buffers.ids_staging[copy].clone());
        if let Some(submission) = self.submit(Some((&ids, &staging, RING as u64 * 4))) {
            self.generation.pending.push_back(Pending { position, count, copy, submission });
            self.generation.copy = (copy + 1) % IN_FLIGHT;
        }
    }
}

/// How often each token is in the window, and the window behind that.
pub(crate) fn seen(window: &[Token], vocab: usize) -> Vec<u32> {
    let mut words = vec![0; vocab];
    for token in window {
        words[token.index()] += 1;
    }
    words.extend(window.iter().map(|token| token.0));
    words
}

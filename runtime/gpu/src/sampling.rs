//! Sampling on the device: each token feeds the next pass there, and the host reads ids later.

use crate::GpuError;
use crate::backend::{Gpu, State, compute_pass, embed_groups};
use crate::sampler_state::{ID_SLOTS, InFlight, SamplerUniforms, penalty_words};
use thimble_runtime::Token;
use thimble_runtime::model::{Batch, layers};
use thimble_runtime::sampler::{Pcg32, Sampling};

/// Set in the id of a token whose logits were not all finite.
const NOT_FINITE: u32 = 1 << 31;

impl Gpu {
    /// Sets the state of the device's random number generator; initially that of seed 0.
    pub fn seed(&mut self, rng: &Pcg32) {
        self.device.queue.write_buffer(&self.sampler.rng, 0, bytemuck::bytes_of(&rng.state()));
    }

    /// Starts sampling on the device. `history` is the whole sequence; [`Gpu::submit_tokens`] runs its last token first.
    /// Ignores the seed of `sampling`: see [`Gpu::seed`].
    ///
    /// # Errors
    /// [`GpuError::Sampling`]; [`GpuError::Option`] if `history` is empty, exceeds the context or has unknown tokens.
    pub fn begin(&mut self, history: &[Token], sampling: &Sampling) -> Result<(), GpuError> {
        let context = self.options.context.min(self.config.context);
        let Some((last, before)) = history.split_last().filter(|_| history.len() <= context) else {
            let (what, expected) = ("the number of tokens in front", format!("1 to {context}"));
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
        self.sampler.continues = false;
        self.set_batch(&Batch { tokens: &[*last], position });
        (self.state.head_row, self.state.head_rows) = (0, 1);
        self.sampler.position = Some(position);
        Ok(())
    }

    /// Whether the recording ends with logits for exactly one row, that after the first `length` tokens.
    pub(crate) fn can_sample_after(&self, length: usize) -> bool {
        let State { position, tokens, head_row, head_rows } = self.state;
        let is_last = head_rows == 1 && head_row + 1 == tokens;
        self.has_head && is_last && (position + tokens) as usize == length
    }

    /// Submits the recording and samples from its logits. Returns the position of the sampled token.
    pub(crate) fn sample_recorded(&mut self) -> usize {
        let next = (self.state.position + self.state.tokens) as usize;
        self.sample.record(compute_pass(&self.device, &mut self.recording), [1, 1, 1]);
        self.submit_ids(next - 1, 1);
        next
    }

    /// Submits `count` more tokens, each sampled from the logits of the one before. At most two submissions can be in
    /// flight: see [`Gpu::take_tokens`].
    ///
    /// # Errors
    /// [`GpuError::Option`] without a preceding [`Gpu::begin`], if two submissions are in flight, and for a `count` that is 0,
    /// more than 64 or does not fit the context.
    pub fn submit_tokens(&mut self, count: usize) -> Result<(), GpuError> {
        let start = self.sampler.position.unwrap_or(self.options.context);
        let left = ID_SLOTS.min(self.options.context.saturating_sub(start));
        let limit = if self.sampler.has_room() { left } else { 0 };
        if !(1..=limit).contains(&count) {
            let expected = format!("1 to {limit} here");
            return Err(GpuError::Option { what: "tokens of one submit", expected, found: count as u64 });
        }
        self.reserve(start..start + count);
        for position in start..start + count {
            for embed in &self.embed {
                let pass = compute_pass(&self.device, &mut self.recording);
                embed.record(pass, embed_groups(&self.config, 1));
            }
            // The device has the token and its position; the position here only sets the reach of attention.
            (self.rows, self.reach) = (1, position + 1);
            let all = 0..self.layers.len();
            layers(self, all);
            self.record_head(1);
            self.sample.record(compute_pass(&self.device, &mut self.recording), [1, 1, 1]);
        }
        self.submit_ids(start, count);
        Ok(())
    }

    /// Waits for the oldest submission in flight and returns its tokens; none if there is no such submission.
    ///
    /// # Errors
    /// [`GpuError::Device`], also for logits that are not finite.
    pub fn take_tokens(&mut self) -> Result<Vec<Token>, GpuError> {
        let Some(InFlight { position, count, staging, submission }) = self.sampler.in_flight.pop_front()
        else {
            return Ok(Vec::new());
        };
        let mut ids = [0u32; ID_SLOTS];
        let staging = self.buffers.ids_staging[staging].clone();
        self.read(&staging, Some(submission), bytemuck::cast_slice_mut(&mut ids));
        self.check()?;
        let sampled = (position..position + count).map(|position| ids[position % ID_SLOTS]);
        if sampled.clone().any(|id| id & NOT_FINITE != 0) {
            return Err(GpuError::Device { reason: "logits that are not finite".into() });
        }
        Ok(sampled.map(Token).collect())
    }

    /// Uploads the settings for sampling after `history`, the whole sequence.
    pub(crate) fn set_sampling(&mut self, sampling: &Sampling, history: &[Token]) -> Result<(), GpuError> {
        let settings = SamplerUniforms::new(sampling, self.config.vocab, ID_SLOTS)?;
        while !self.sampler.in_flight.is_empty() {
            self.take_tokens()?;
        }
        self.device.queue.write_buffer(&self.sampler.settings, 0, bytemuck::bytes_of(&settings));
        let start = history.len().saturating_sub(settings.window as usize);
        if settings.window > 0 {
            let words = penalty_words(&history[start..], self.config.vocab);
            let (counts, recent) = words.split_at(self.config.vocab);
            let at = (self.config.vocab + start) as u64 * 4;
            self.device.queue.write_buffer(&self.sampler.history, 0, bytemuck::cast_slice(counts));
            self.device.queue.write_buffer(&self.sampler.history, at, bytemuck::cast_slice(recent));
        }
        Ok(())
    }

    /// Submits the recording, which samples `count` tokens from `position` on, and a copy of their ids.
    fn submit_ids(&mut self, position: usize, count: usize) {
        self.logit_rows = 0;
        let staging = self.sampler.staging;
        let (ids, to) = (self.buffers.ids.clone(), self.buffers.ids_staging[staging].clone());
        if let Some(submission) = self.submit(Some((&ids, &to, ID_SLOTS as u64 * 4))) {
            self.sampler.in_flight.push_back(InFlight { position, count, staging, submission });
            self.sampler.staging = (staging + 1) % self.buffers.ids_staging.len();
        }
        self.sampler.position = Some(position + count);
        self.sampler.continues = true;
    }
}

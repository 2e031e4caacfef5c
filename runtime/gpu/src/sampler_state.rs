//! The state of sampling on the device.

use crate::GpuError;
use std::collections::VecDeque;
use thimble_runtime::Token;
use thimble_runtime::sampler::Sampling;

/// Slots of the ring buffer of sampled ids, and so most tokens of one submission.
pub(crate) const ID_SLOTS: usize = 64;

/// Most submissions whose ids have not been read.
pub(crate) const MAX_IN_FLIGHT: usize = 2;

/// Sampling settings in the layout of the shader.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct SamplerUniforms {
    vocab: u32,
    id_slots: u32,
    /// 1 / temperature; 0 for greedy.
    scale: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// Tokens in the penalty window; 0 without penalties.
    pub(crate) window: u32,
    unused: [u32; 2],
}

impl SamplerUniforms {
    pub(crate) const BYTES: u64 = size_of::<SamplerUniforms>() as u64;

    /// # Errors
    /// [`GpuError::Sampling`].
    pub(crate) fn new(
        sampling: &Sampling,
        vocab: usize,
        id_slots: usize,
    ) -> Result<SamplerUniforms, GpuError> {
        sampling.check()?;
        // Like the CPU's sampler, whose scratch has one slot per token of the vocabulary.
        let window = match sampling.penalizes() {
            true => sampling.penalty_window.unwrap_or(usize::MAX).min(vocab),
            false => 0,
        };
        let scale = match sampling.temperature {
            0.0 => 0.0,
            // Keep the scale and its products finite.
            temperature => (1.0 / temperature).clamp(1e-37, 1e37),
        };
        Ok(SamplerUniforms {
            vocab: vocab as u32,
            id_slots: id_slots as u32,
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

/// A submission whose ids have not been read.
pub(crate) struct InFlight {
    /// Position of the first token that it runs.
    pub(crate) position: usize,
    /// Tokens that it samples.
    pub(crate) count: usize,
    /// Index of the staging buffer that receives its ids.
    pub(crate) staging: usize,
    pub(crate) submission: wgpu::SubmissionIndex,
}

/// Buffers and progress of sampling on the device.
pub(crate) struct SamplerState {
    pub(crate) settings: wgpu::Buffer,
    pub(crate) rng: wgpu::Buffer,
    /// How often each token occurs in the penalty window, `[vocab]`, then the sequence, `[context]`.
    pub(crate) history: wgpu::Buffer,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// Index of the staging buffer of the next submission.
    pub(crate) staging: usize,
    /// Position of the next token; `None` unless the device holds a sequence to continue.
    pub(crate) position: Option<usize>,
    /// Whether the next submission continues from the position on the device instead of the host's.
    pub(crate) continues: bool,
}

impl SamplerState {
    pub(crate) fn new(settings: wgpu::Buffer, rng: wgpu::Buffer, history: wgpu::Buffer) -> SamplerState {
        let in_flight = VecDeque::with_capacity(MAX_IN_FLIGHT);
        SamplerState { settings, rng, history, in_flight, staging: 0, position: None, continues: false }
    }

    /// Whether another submission can be made before ids are read.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT
    }

    /// Forgets the sequence: something else runs.
    pub(crate) fn reset(&mut self) {
        (self.position, self.continues) = (None, false);
    }
}

/// Token counts of the penalty window, `[vocab]`, then the window itself.
pub(crate) fn penalty_words(window: &[Token], vocab: usize) -> Vec<u32> {
    let mut words = vec![0; vocab];
    for token in window {
        words[token.index()] += 1;
    }
    words.extend(window.iter().map(|token| token.0));
    words
}

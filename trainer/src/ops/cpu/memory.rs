//! The memory of one engine.

use super::super::{Buffer, BufferLengths};
use super::copies::Copies;
use super::heads;
use super::threads::Threads;
use crate::error::Result;

/// The CPU, and the memory of one engine.
pub struct CpuOps {
    pub(super) threads: Threads,
    pub(super) norm_epsilon: f32,
    pub(super) weights: Vec<f32>,
    pub(super) copies: Copies,
    pub(super) gradients: Vec<f32>,
    pub(super) first_moment: Vec<f32>,
    pub(super) second_moment: Vec<f32>,
    pub(super) arena: Vec<f32>,
    pub(super) inputs: Vec<u32>,
    pub(super) targets: Vec<u32>,
    pub(super) target_weights: Vec<f32>,
    pub(super) document_start: Vec<u32>,
    pub(super) rotary: heads::Rotary,
    pub(super) partial: Vec<f32>,
    pub(super) partial_sums: Vec<f64>,
    pub(super) losses: Vec<f32>,
    pub(super) loss_sum: f64,
}

impl CpuOps {
    /// Memory for a model's parameters, on `threads` threads.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn new(threads: usize, lengths: impl Into<BufferLengths>, norm_epsilon: f32) -> Result<CpuOps> {
        let BufferLengths { weights, gradients } = lengths.into();
        Ok(CpuOps {
            threads: Threads::new(threads)?,
            norm_epsilon,
            weights: vec![0.0; weights],
            copies: Copies::default(),
            gradients: vec![0.0; gradients],
            first_moment: vec![0.0; gradients],
            second_moment: vec![0.0; gradients],
            arena: Vec::new(),
            inputs: Vec::new(),
            targets: Vec::new(),
            target_weights: Vec::new(),
            document_start: Vec::new(),
            rotary: heads::Rotary::default(),
            partial: Vec::new(),
            partial_sums: Vec::new(),
            losses: Vec::new(),
            loss_sum: 0.0,
        })
    }

    pub(super) fn buffer(&self, buffer: Buffer) -> &[f32] {
        match buffer {
            Buffer::Weights => &self.weights,
            Buffer::Gradients => &self.gradients,
            Buffer::FirstMoment => &self.first_moment,
            Buffer::SecondMoment => &self.second_moment,
        }
    }
    pub(super) fn buffer_mut(&mut self, buffer: Buffer) -> &mut [f32] {
        match buffer {
            Buffer::Weights => &mut self.weights,
            Buffer::Gradients => &mut self.gradients,
            Buffer::FirstMoment => &mut self.first_moment,
            Buffer::SecondMoment => &mut self.second_moment,
        }
    }
}

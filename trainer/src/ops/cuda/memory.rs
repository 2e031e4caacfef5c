//! The memory of one engine on a device, and the places of weights and activations in it.

use super::super::rotary::tables;
use super::super::{Buffer, BufferLengths, BufferSpan, WeightMatrix, WeightVector};
use super::batch::{BatchLayout, BatchParts};
use super::kernels::{Given, launch};
use super::launcher::{BF16, DeviceMemory, F32, Launcher, Region};
use super::weights::{Copies, WeightSet};
use crate::error::{Error, Result};
use std::ops::Range;
use thimble_runtime::format::RopeParameters;
use zerocopy::IntoBytes;

/// The operations by the project's own kernels: activations in bf16, sums, statistics, weights, gradients and moments in
/// f32.
pub struct CudaOps<L: Launcher> {
    pub(super) launcher: L,
    pub(super) norm_epsilon: f32,
    pub(super) lengths: BufferLengths,
    pub(super) weights: WeightSet<L::Memory>,
    pub(super) copies: Copies<L::Memory>,
    gradients: L::Memory,
    first_moment: L::Memory,
    second_moment: L::Memory,
    arena: L::Memory,
    /// For sums of parts, within one operation.
    scratch: L::Memory,
    batch: L::Memory,
    pub(super) layout: BatchLayout,
    rotary: L::Memory,
    rotary_len: usize,
    /// The sum of losses, f64.
    pub(super) loss_sum: L::Memory,
}

impl<L: Launcher> CudaOps<L> {
    /// Memory for a model's parameters; all zero.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn new(launcher: L, lengths: impl Into<BufferLengths>, norm_epsilon: f32) -> Result<CudaOps<L>> {
        let lengths = lengths.into();
        let zeros = |bytes: usize| -> Result<L::Memory> {
            let memory = launcher.allocate(bytes)?;
            launcher.zero(memory.region())?;
            Ok(memory)
        };
        let of_gradients = || zeros(lengths.gradients * F32);
        Ok(CudaOps {
            norm_epsilon,
            lengths,
            weights: WeightSet {
                values: zeros(lengths.weights * F32)?,
                rounded: zeros(lengths.weights * BF16)?,
            },
            copies: Copies::default(),
            gradients: of_gradients()?,
            first_moment: of_gradients()?,
            second_moment: of_gradients()?,
            arena: launcher.allocate(0)?,
            scratch: launcher.allocate(0)?,
            batch: launcher.allocate(0)?,
            layout: BatchLayout::default(),
            rotary: launcher.allocate(0)?,
            rotary_len: 0,
            loss_sum: zeros(size_of::<f64>())?,
            launcher,
        })
    }

    /// Bytes of all that is allocated.
    pub fn allocated_bytes(&self) -> usize {
        let flat = [&self.gradients, &self.first_moment, &self.second_moment];
        let other = [&self.arena, &self.scratch, &self.batch, &self.rotary, &self.loss_sum];
        let bytes = flat.into_iter().chain(other).map(DeviceMemory::bytes).sum::<usize>();
        bytes + self.weights.bytes() + self.copies.bytes()
    }

    pub(super) fn buffer(&self, buffer: Buffer) -> &L::Memory {
        match buffer {
            Buffer::Weights => &self.weights.values,
            Buffer::Gradients => &self.gradients,
            Buffer::FirstMoment => &self.first_moment,
            Buffer::SecondMoment => &self.second_moment,
        }
    }

    /// Makes the arena at least so long; its content is lost if it grows.
    pub(super) fn grow_arena(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.arena.bytes() {
            // Free the old arena first.
            self.arena = self.launcher.allocate(0)?;
            self.arena = self.launcher.allocate(bytes)?;
        }
        Ok(())
    }

    /// Scratch for one operation; what an earlier one left is lost.
    pub(super) fn scratch(&mut self, bytes: usize) -> Result<Region> {
        if bytes > self.scratch.bytes() {
            self.scratch = self.launcher.allocate(0)?;
            self.scratch = self.launcher.allocate(bytes)?;
        }
        Ok(self.scratch.region().part(0, bytes))
    }

    /// Replaces the batch.
    pub(super) fn set_batch(&mut self, layout: BatchLayout, words: &[u32]) -> Result<()> {
        let bytes = layout.words() * size_of::<u32>();
        if bytes > self.batch.bytes() {
            self.batch = self.launcher.allocate(0)?;
            self.batch = self.launcher.allocate(bytes)?;
        }
        self.layout = layout;
        self.launcher.upload(self.batch.region().part(0, size_of_val(words)), words.as_bytes())
    }

    pub(super) fn batch(&self) -> BatchParts {
        self.layout.parts(self.batch.region())
    }

    /// Replaces the rotations.
    pub(super) fn replace_rotary(
        &mut self,
        rope: &RopeParameters,
        head_dim: usize,
        context: usize,
    ) -> Result<()> {
        let (cosine, sine) = tables(rope, head_dim, context);
        self.rotary_len = cosine.len() * F32;
        self.rotary = self.launcher.allocate(2 * self.rotary_len)?;
        let [of_cosine, of_sine] = self.tables();
        self.launcher.upload(of_cosine, cosine.as_bytes())?;
        self.launcher.upload(of_sine, sine.as_bytes())
    }

    fn tables(&self) -> [Region; 2] {
        let (both, len) = (self.rotary.region(), self.rotary_len);
        [both.part(0, len), both.part(len, len)]
    }

    /// Cosines and sines, or null for no rotation.
    pub(super) fn rotations(&self, rope: bool) -> [Given; 2] {
        let tables = if rope { self.tables() } else { [Region::NULL; 2] };
        tables.map(Given::F32s)
    }

    /// Where activations lie.
    pub(super) fn at(&self, span: BufferSpan) -> Region {
        self.arena.region().part(span.start * BF16, span.len * BF16)
    }

    /// Activations for a kernel.
    pub(super) fn activations(&self, span: BufferSpan) -> Given {
        Given::Bf16s(self.at(span))
    }

    /// Statistics for a kernel.
    pub(super) fn statistics(&self, span: BufferSpan) -> Given {
        Given::F32s(self.at(span))
    }

    /// A matrix of the weights that passes read, in bf16.
    pub(super) fn matrix(&self, matrix: WeightMatrix) -> Region {
        self.selected().matrix(matrix)
    }

    /// A vector of the weights that passes read, in f32.
    pub(super) fn vector(&self, vector: WeightVector) -> Given {
        Given::F32s(self.selected().values.region().part(vector.start * F32, vector.len * F32))
    }

    fn selected(&self) -> &WeightSet<L::Memory> {
        self.copies.selected().unwrap_or(&self.weights)
    }

    /// The gradient of parameters; none where they are frozen.
    pub(super) fn gradient(&self, parameters: Range<usize>) -> Option<Region> {
        let (start, len) = (parameters.start * F32, parameters.len() * F32);
        (parameters.end <= self.lengths.gradients).then(|| self.gradients.region().part(start, len))
    }

    /// Starts a kernel.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        shared: usize,
        given: &[Given],
    ) -> Result<()> {
        self.launcher.launch(&launch(kernel, grid, shared, given)?)
    }

    /// Starts a kernel whose blocks are counted along x.
    pub(super) fn launch_blocks(
        &self,
        kernel: &'static str,
        blocks: usize,
        shared: usize,
        given: &[Given],
    ) -> Result<()> {
        self.launch(kernel, [blocks, 1, 1], shared, given)
    }
}

/// The first `values` numbers of a buffer.
///
/// # Errors
/// It has fewer.
pub(super) fn beginning(values: usize, memory: &impl DeviceMemory) -> Result<Region> {
    let found = memory.bytes() / F32;
    if values > found {
        return Err(Error::Invalid(format!("{values} values for a buffer of {found}")));
    }
    Ok(memory.region().part(0, values * F32))
}

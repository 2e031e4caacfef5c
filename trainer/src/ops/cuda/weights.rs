//! The weights that passes read: the masters, or copies of other weights beside them.

use super::super::{Buffer, Rounding, WeightCopy, WeightMatrix};
use super::kernels::Given;
use super::launcher::{DeviceMemory, Launcher, Region};
use super::memory::{BF16, CudaOps, F32, beginning};
use crate::error::{Error, Result};
use zerocopy::IntoBytes;

/// Elements that a block rounds.
const ELEMENTS: usize = 2048;

/// Weights in f32, which norms read, and rounded to bf16, which products read, at the same places.
pub(super) struct WeightSet<M> {
    pub(super) values: M,
    pub(super) rounded: M,
}

impl<M: DeviceMemory> WeightSet<M> {
    /// Bytes of both.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes() + self.rounded.bytes()
    }

    /// A matrix in bf16.
    pub(super) fn matrix(&self, matrix: WeightMatrix) -> Region {
        self.rounded.region().part(matrix.start * BF16, matrix.rows * matrix.columns * BF16)
    }
}

/// The copies that were written, and the one that passes read.
pub(super) struct Copies<M> {
    rounded: Option<WeightSet<M>>,
    teacher: Option<WeightSet<M>>,
    selected: Option<WeightCopy>,
}

impl<M> Default for Copies<M> {
    fn default() -> Copies<M> {
        Copies { rounded: None, teacher: None, selected: None }
    }
}

impl<M: DeviceMemory> Copies<M> {
    /// A copy that was written.
    pub(super) fn get(&self, copy: WeightCopy) -> Result<&WeightSet<M>> {
        let found = match copy {
            WeightCopy::Rounded => &self.rounded,
            WeightCopy::Teacher => &self.teacher,
        };
        found.as_ref().ok_or_else(|| {
            Error::Invalid(format!("expected weights in the copy {copy:?}, found none: write them first"))
        })
    }

    fn slot(&mut self, copy: WeightCopy) -> &mut Option<WeightSet<M>> {
        match copy {
            WeightCopy::Rounded => &mut self.rounded,
            WeightCopy::Teacher => &mut self.teacher,
        }
    }

    /// The selected copy.
    pub(super) fn selected(&self) -> Option<&WeightSet<M>> {
        self.get(self.selected?).ok()
    }

    /// Selects a copy that was written, or the masters.
    pub(super) fn select(&mut self, copy: Option<WeightCopy>) -> Result<()> {
        copy.map(|copy| self.get(copy)).transpose()?;
        self.selected = copy;
        Ok(())
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> usize {
        [&self.rounded, &self.teacher].into_iter().flatten().map(WeightSet::bytes).sum()
    }
}

impl<L: Launcher> CudaOps<L> {
    /// Replaces the beginning of a flat buffer, and with weights their rounded copy.
    pub(super) fn write_buffer(&self, buffer: Buffer, values: &[f32]) -> Result<()> {
        self.launcher.upload(beginning(values.len(), self.buffer(buffer))?, values.as_bytes())?;
        if buffer == Buffer::Weights { self.round(&self.weights, values.len()) } else { Ok(()) }
    }

    /// Copies the beginning of a flat buffer out.
    pub(super) fn read_buffer(&self, buffer: Buffer, values: &mut [f32]) -> Result<()> {
        self.launcher.download(beginning(values.len(), self.buffer(buffer))?, values.as_mut_bytes())
    }

    /// Rounds the first `len` weights to bf16.
    fn round(&self, set: &WeightSet<L::Memory>, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let values = Given::F32s(set.values.region());
        let given = [values, Given::Bf16s(set.rounded.region()), Given::Count(len)];
        self.launch_blocks("round_to_bf16", len.div_ceil(ELEMENTS), 0, &given)
    }

    /// Replaces a copy.
    pub(super) fn replace_copy(&mut self, copy: WeightCopy, values: &[f32]) -> Result<()> {
        let fits = |set: &WeightSet<L::Memory>| set.values.bytes() == values.len() * F32;
        let set = match self.copies.slot(copy).take().filter(fits) {
            Some(set) => set,
            None => WeightSet {
                values: self.launcher.allocate(values.len() * F32)?,
                rounded: self.launcher.allocate(values.len() * BF16)?,
            },
        };
        self.launcher.upload(set.values.region(), values.as_bytes())?;
        self.round(&set, values.len())?;
        *self.copies.slot(copy) = Some(set);
        Ok(())
    }

    /// Rounds the masters on the host, where the converter's rounding runs.
    pub(super) fn round_masters(&mut self, round: &Rounding<'_>) -> Result<()> {
        let mut masters = vec![0.0; self.lengths.weights];
        self.read_buffer(Buffer::Weights, &mut masters)?;
        let mut rounded = vec![0.0; masters.len()];
        round(&masters, &mut rounded);
        self.replace_copy(WeightCopy::Rounded, &rounded)
    }
}

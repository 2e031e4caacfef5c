//! Between the host and the flat buffers and copies of the weights.

use super::super::{Buffer, Rounding, WeightCopy};
use super::kernels::Given;
use super::launcher::{BF16, DeviceMemory, F32, Launcher};
use super::memory::{CudaOps, beginning};
use super::weights::WeightSet;
use crate::error::Result;
use zerocopy::IntoBytes;

/// Elements that a block rounds.
const ELEMENTS: usize = 2048;

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

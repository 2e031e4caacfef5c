//! The weights that passes read: the masters, or copies of other weights beside them.

use super::super::{WeightCopy, WeightMatrix};
use super::launcher::{BF16, DeviceMemory, Region};
use crate::error::{Error, Result};

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

    pub(super) fn slot(&mut self, copy: WeightCopy) -> &mut Option<WeightSet<M>> {
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

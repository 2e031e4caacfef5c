//! Copies of the weights that passes read in place of the masters.

use super::super::WeightCopy;
use crate::error::Error;
use candle_core::Tensor;

/// The copies that were written, in the activations' type, and the one that passes read.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) rounded: Option<Tensor>,
    pub(super) teacher: Option<Tensor>,
    pub(super) selected: Option<WeightCopy>,
}

impl Copies {
    pub(super) fn get(&self, copy: WeightCopy) -> Option<&Tensor> {
        match copy {
            WeightCopy::Rounded => self.rounded.as_ref(),
            WeightCopy::Teacher => self.teacher.as_ref(),
        }
    }

    /// The selected copy.
    pub(super) fn selected(&self) -> Option<&Tensor> {
        self.selected.and_then(|copy| self.get(copy))
    }
}

/// The error where a copy is used that was never written.
pub(super) fn missing(copy: WeightCopy) -> Error {
    Error::Invalid(format!("expected weights in the copy {copy:?}, found none: write them first"))
}

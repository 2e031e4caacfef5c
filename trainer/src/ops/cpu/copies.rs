//! Copies of the weights that passes read in place of the masters.

use super::super::WeightCopy;
use crate::error::Error;

/// The copies that were written, and the one that passes read.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) rounded: Vec<f32>,
    pub(super) teacher: Vec<f32>,
    pub(super) selected: Option<WeightCopy>,
}

impl Copies {
    pub(super) fn get(&self, copy: WeightCopy) -> &[f32] {
        match copy {
            WeightCopy::Rounded => &self.rounded,
            WeightCopy::Teacher => &self.teacher,
        }
    }

    /// The selected copy, or else the masters.
    pub(super) fn or<'a>(&'a self, masters: &'a [f32]) -> &'a [f32] {
        self.selected.map_or(masters, |copy| self.get(copy))
    }
}

/// The error where a copy is used that was never written.
pub(super) fn missing(copy: WeightCopy) -> Error {
    Error::Invalid(format!("expected weights in the copy {copy:?}, found none: write them first"))
}

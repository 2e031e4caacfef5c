//! The parts of a batch.

use core::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The rows of a batch that are consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BatchPart {
    /// The sequence.
    pub(crate) slot: usize,
    /// First row in the batch.
    pub(crate) first: usize,
    /// Number of rows.
    pub(crate) tokens: usize,
    /// Position of the first row's token in the sequence.
    pub(crate) position: usize,
}

impl BatchPart {
    /// Its rows in the batch.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.first..self.first + self.tokens
    }
}

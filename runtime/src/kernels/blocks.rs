//! Matrices of blocks, and groups of quantized activations.

use crate::format::{Encoding, GROUP, PANEL};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A group of 32 quantized activations: two planes of signed bytes with a common step.
///
/// An activation is `step * (256 * code + fine)`, within 1/32,000 of the largest of its group. The first plane alone would
/// suffice for most groups, but every trained model has outlier channels, which leave few steps to the rest of their group:
/// the error of log-probabilities is then thirty times as large.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuantGroup {
    /// First plane: 4 signed bytes in a word, the first column lowest.
    pub codes: [i32; GROUP / 4],
    /// Second plane: the rounding error of the first, -127 to 127.
    pub fine: [i32; GROUP / 4],
    /// Value of one step of the second plane.
    pub step: f32,
    /// Sum of the activations in steps, for zero points.
    pub steps: i32,
    /// Sum of the activations, for minimums.
    pub sum: f32,
}

/// A weight matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'f> {
    /// Encoding of `data`; not [`Encoding::Vector`].
    pub encoding: Encoding,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// The panels: [`Encoding::tensor_bytes`] bytes.
    pub data: &'f [u8],
}

impl<'f> Matrix<'f> {
    /// Number of 16-row panels.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// The bytes of one panel; empty after the last.
    pub(crate) fn panel(&self, index: usize) -> &'f [u8] {
        self.panel_of(self.encoding, index)
    }

    /// [`Matrix::panel`] for a caller that knows the encoding at compile time, and so the size of its blocks.
    #[inline(always)]
    pub(super) fn panel_of(&self, encoding: Encoding, index: usize) -> &'f [u8] {
        debug_assert_eq!(encoding, self.encoding);
        let bytes = encoding.panel_bytes(self.columns).unwrap_or(0);
        self.data.get(index * bytes..(index + 1) * bytes).unwrap_or(&[])
    }
}

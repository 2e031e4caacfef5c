//! The blocks of FORMAT.md as Rust types, and what an activation looks like to the integer kernels.

use crate::format::{Encoding, GROUP, PANEL};
use half::f16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Q8: 8 steps of 4 columns, then the scales.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q8Block {
    pub(crate) codes: [[u8; 64]; 8],
    pub(crate) scales: [f16; PANEL],
}

/// Q8Row: 8 steps of 4 columns; the scales stand in front of the panel.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q8RowBlock {
    pub(crate) codes: [[u8; 64]; 8],
}

/// Q4: 4 steps of 8 columns, then the scales.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q4Block {
    pub(crate) codes: [[u8; 64]; 4],
    pub(crate) scales: [f16; PANEL],
}

/// Q4Min: 4 steps of 8 columns, then scales and minimums.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q4MinBlock {
    pub(crate) codes: [[u8; 64]; 4],
    pub(crate) scales: [f16; PANEL],
    pub(crate) minimums: [f16; PANEL],
}

/// Q3Nl: low two bits of the codes, third bits, scales of the groups; the rows' scales stand in front of the panel.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q3NlBlock {
    pub(crate) low: [[u8; 64]; 2],
    pub(crate) high: [u8; 64],
    pub(crate) scales: [i8; PANEL],
}

/// Q4Nl: as Q4, with scales as Q3Nl.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q4NlBlock {
    pub(crate) low: [[u8; 64]; 4],
    pub(crate) scales: [i8; PANEL],
}

/// Q5Nl: low four bits of the codes as Q4, fifth bits, scales as Q3Nl.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q5NlBlock {
    pub(crate) low: [[u8; 64]; 4],
    pub(crate) high: [u8; 64],
    pub(crate) scales: [i8; PANEL],
}

/// Q6: low four bits of the codes as Q4, upper two bits, scales as Q3Nl.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Q6Block {
    pub(crate) low: [[u8; 64]; 4],
    pub(crate) high: [[u8; 64]; 2],
    pub(crate) scales: [i8; PANEL],
}

const _: () = assert!(size_of::<Q8Block>() == Encoding::Q8.block_bytes());
const _: () = assert!(size_of::<Q8RowBlock>() == Encoding::Q8Row.block_bytes());
const _: () = assert!(size_of::<Q4Block>() == Encoding::Q4.block_bytes());
const _: () = assert!(size_of::<Q4MinBlock>() == Encoding::Q4Min.block_bytes());
const _: () = assert!(size_of::<Q3NlBlock>() == Encoding::Q3Nl.block_bytes());
const _: () = assert!(size_of::<Q4NlBlock>() == Encoding::Q4Nl.block_bytes());
const _: () = assert!(size_of::<Q5NlBlock>() == Encoding::Q5Nl.block_bytes());
const _: () = assert!(size_of::<Q6Block>() == Encoding::Q6.block_bytes());

/// 32 activations as two planes of signed bytes with one step: what an integer kernel multiplies with.
///
/// An activation is `step * (256 * code + fine)`, within 1/32,000 of its group's largest. The first plane alone would
/// do for most groups, but where one channel is far out, as some are in every trained model, its group's other
/// numbers would have few steps left: log-probabilities then err thirty times as much.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuantGroup {
    /// 4 signed bytes in each word, first column lowest.
    pub codes: [i32; GROUP / 4],
    /// As `codes`, what rounding left: -127 to 127.
    pub fine: [i32; GROUP / 4],
    /// Value of one fine step.
    pub step: f32,
    /// Sum of the 32 activations in fine steps, for zero points.
    pub steps: i32,
    /// Sum of the 32 activations, for minimums.
    pub sum: f32,
}

/// One weight matrix as the kernels see it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'f> {
    /// How `data` is stored; never [`Encoding::Vector`].
    pub encoding: Encoding,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// Panels, one after the other; exactly as many bytes as encoding and shape imply.
    pub data: &'f [u8],
}

impl<'f> Matrix<'f> {
    /// Number of 16-row panels.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// The bytes of one panel; empty past the last.
    pub(crate) fn panel(&self, index: usize) -> &'f [u8] {
        let bytes = self.encoding.panel_bytes(self.columns).unwrap_or(0);
        self.data.get(index * bytes..(index + 1) * bytes).unwrap_or(&[])
    }

    /// The scales in front of a panel, if it has them, and its blocks.
    #[inline(always)]
    pub(super) fn header_and_blocks<B: FromBytes + Immutable + KnownLayout>(
        &self,
        panel: usize,
    ) -> (Option<&'f [f32; PANEL]>, &'f [B]) {
        let data = self.panel(panel);
        let (header, data) = data.split_at(self.encoding.panel_header().min(data.len()));
        // The format's checks leave no panel of another length; an empty one would only yield zeros.
        (<[f32; PANEL]>::ref_from_bytes(header).ok(), <[B]>::ref_from_bytes(data).unwrap_or(&[]))
    }
}

//! The blocks of FORMAT.md as Rust types, and quantized activations.

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

/// Evaluates an expression with `$block` as the block type of a quantized encoding; other encodings have arms of their own.
macro_rules! with_block {
    (@ $block:ident = $type:ident, $quantized:expr) => {{
        type $block = $crate::kernels::blocks::$type;
        $quantized
    }};
    ($encoding:expr, $block:ident => $quantized:expr, $($floats:pat => $float:expr),+ $(,)?) => {
        match $encoding {
            $($floats => $float,)+
            Encoding::Q8 => with_block!(@ $block = Q8Block, $quantized),
            Encoding::Q8Row => with_block!(@ $block = Q8RowBlock, $quantized),
            Encoding::Q4 => with_block!(@ $block = Q4Block, $quantized),
            Encoding::Q4Min => with_block!(@ $block = Q4MinBlock, $quantized),
            Encoding::Q3Nl => with_block!(@ $block = Q3NlBlock, $quantized),
            Encoding::Q4Nl => with_block!(@ $block = Q4NlBlock, $quantized),
            Encoding::Q5Nl => with_block!(@ $block = Q5NlBlock, $quantized),
            Encoding::Q6 => with_block!(@ $block = Q6Block, $quantized),
        }
    };
}
pub(super) use with_block;

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
        let bytes = self.encoding.panel_bytes(self.columns).unwrap_or(0);
        self.data.get(index * bytes..(index + 1) * bytes).unwrap_or(&[])
    }

    /// A panel's header of row scales, if the encoding has one, and its blocks.
    #[inline(always)]
    pub(super) fn header_and_blocks<B: FromBytes + Immutable + KnownLayout>(
        &self,
        panel: usize,
    ) -> (Option<&'f [f32; PANEL]>, &'f [B]) {
        let data = self.panel(panel);
        let (header, data) = data.split_at(self.encoding.panel_header().min(data.len()));
        // The format's checks guarantee the length; an empty panel would yield zeros.
        (<[f32; PANEL]>::ref_from_bytes(header).ok(), <[B]>::ref_from_bytes(data).unwrap_or(&[]))
    }
}

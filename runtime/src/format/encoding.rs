//! Weight encodings: one table of their numbers and layouts.

use super::FormatError;
use super::block_layout::{BlockLayout, FloatFormat, PANEL, WeightCodes, WeightScales};

/// Defines [`Encoding`] from one row for each: its number in a file, and its layout.
macro_rules! encodings {
    ($($(#[$doc:meta])+ $encoding:ident = $number:literal: $layout:expr;)+) => {
        /// The encoding of a tensor's elements. `FORMAT.md` describes the layouts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Encoding {
            $($(#[$doc])+ $encoding = $number),+
        }

        impl Encoding {
            /// All encodings, by number.
            pub const ALL: [Encoding; [$($number),+].len()] = [$(Encoding::$encoding),+];

            /// How the encoding stores weights.
            pub const fn layout(self) -> &'static BlockLayout {
                match self {
                    $(Encoding::$encoding => const { &$layout }),+
                }
            }
        }
    };
}

encodings! {
    /// Contiguous f32 without panels, for norm weights.
    Vector = 1: BlockLayout { rows: 1, ..BlockLayout::float("f32 vector", FloatFormat::F32) };
    /// f32 panels.
    F32 = 2: BlockLayout::float("f32", FloatFormat::F32);
    /// f16 panels.
    F16 = 3: BlockLayout::float("f16", FloatFormat::F16);
    /// bfloat16 panels.
    BF16 = 4: BlockLayout::float("bf16", FloatFormat::BF16);
    /// 8 bits, one f16 scale for each row and group of 32 columns. A lossless encoding of GGUF Q8_0 and Q5_0.
    Q8 = 5: BlockLayout::quantized("q8", WeightCodes::Uniform { bits: 8, zero: 128 }, WeightScales::Group);
    /// 8 bits, one f32 scale for each row.
    Q8Row = 6: BlockLayout::quantized("q8row", WeightCodes::Uniform { bits: 8, zero: 128 }, WeightScales::Row);
    /// 4 bits, zero point 8, one f16 scale for each row and group. A lossless encoding of GGUF Q4_0.
    Q4 = 7: BlockLayout::quantized("q4", WeightCodes::Uniform { bits: 4, zero: 8 }, WeightScales::Group);
    /// 4 bits, f16 scale and f16 minimum for each row and group. A lossless encoding of GGUF Q4_1.
    Q4Min = 8: BlockLayout::quantized("q4min", WeightCodes::Uniform { bits: 4, zero: 0 }, WeightScales::GroupAndMinimum);
    /// 3 bits, 8 non-uniform levels; two-level scales: 8-bit for each row and group, f32 for each row.
    Q3Nl = 9: BlockLayout::quantized("q3nl", WeightCodes::NonUniform(&LEVELS_3), WeightScales::TwoLevel);
    /// 4 bits, 16 non-uniform levels; scales as [`Encoding::Q3Nl`].
    Q4Nl = 10: BlockLayout::quantized("q4nl", WeightCodes::NonUniform(&LEVELS_4), WeightScales::TwoLevel);
    /// 5 bits, 32 non-uniform levels; scales as [`Encoding::Q3Nl`].
    Q5Nl = 11: BlockLayout::quantized("q5nl", WeightCodes::NonUniform(&LEVELS_5), WeightScales::TwoLevel);
    /// 6 bits, uniform levels, zero point 32; scales as [`Encoding::Q3Nl`].
    Q6 = 12: BlockLayout::quantized("q6", WeightCodes::Uniform { bits: 6, zero: 32 }, WeightScales::TwoLevel);
}

/// Levels fitted by Lloyd's algorithm, with a search for the scale, to groups of 32 normally distributed numbers, some with
/// heavier tails.
const LEVELS_3: [u8; 8] = [11, 32, 47, 60, 73, 86, 102, 127];
const LEVELS_4: [u8; 16] = [8, 20, 29, 37, 44, 50, 55, 61, 66, 72, 78, 84, 91, 100, 110, 127];
const LEVELS_5: [u8; 32] = [
    6, 13, 18, 23, 27, 31, 35, 39, 42, 45, 49, 52, 54, 57, 60, 62, 65, 67, 70, 73, 76, 79, 82, 86, 89, 93,
    97, 101, 106, 111, 117, 127,
];

impl Encoding {
    /// The encodings of matrices.
    pub fn matrices() -> impl Iterator<Item = Encoding> {
        Self::ALL.into_iter().filter(|encoding| encoding.layout().rows == PANEL)
    }

    /// The encoding with this number in a file.
    ///
    /// # Errors
    /// [`FormatError::UnknownEncoding`].
    pub fn from_number(number: u16) -> Result<Encoding, FormatError> {
        let found = Self::ALL.into_iter().find(|e| *e as u16 == number);
        found.ok_or(FormatError::UnknownEncoding { number })
    }

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// Whether weights are codes and scales, not floats.
    pub const fn is_quantized(self) -> bool {
        !matches!(self.layout().scales, WeightScales::None)
    }

    /// Whether each group has an 8-bit scale, relative to an f32 scale of the row.
    pub const fn has_two_level_scales(self) -> bool {
        matches!(self.layout().scales, WeightScales::TwoLevel)
    }

    /// Bytes of one block: 16 rows by 32 columns with their scales for quantized encodings, 16 rows by 1 column for float
    /// panels, one element for a vector.
    pub const fn block_bytes(self) -> usize {
        self.layout().bytes()
    }

    /// Columns of one block.
    pub const fn block_columns(self) -> usize {
        self.layout().columns()
    }

    /// Bytes of a panel's header: 16 f32 row scales, for encodings that have them.
    pub const fn panel_header(self) -> usize {
        self.layout().panel_header()
    }

    /// Bytes of one panel of 16 rows (one row, for a vector) and `columns` columns; `None` on overflow.
    pub fn panel_bytes(self, columns: usize) -> Option<usize> {
        let blocks = columns.div_ceil(self.block_columns());
        blocks.checked_mul(self.block_bytes())?.checked_add(self.panel_header())
    }

    /// Bytes of a tensor; `None` on overflow.
    pub fn tensor_bytes(self, rows: usize, columns: usize) -> Option<usize> {
        self.panel_bytes(columns)?.checked_mul(rows.div_ceil(self.layout().rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn blocks_have_the_sizes_of_the_format() {
        let sizes: Vec<usize> = Encoding::ALL.into_iter().map(Encoding::block_bytes).collect();
        assert_eq!(sizes, [4, 64, 32, 32, 544, 512, 288, 320, 208, 272, 336, 400]);
        for encoding in Encoding::ALL {
            let row_scales = encoding == Encoding::Q8Row || encoding as u16 >= Encoding::Q3Nl as u16;
            assert_eq!(encoding.panel_header(), if row_scales { 64 } else { 0 });
            assert_eq!(encoding.block_columns(), if encoding.is_quantized() { 32 } else { 1 });
            assert_eq!(Encoding::from_number(encoding as u16), Ok(encoding));
        }
        assert!(Encoding::from_number(0).is_err() && Encoding::from_number(99).is_err());
    }

    #[test]
    fn levels_ascend_within_seven_bits_of_zero() {
        for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.is_quantized()) {
            let layout = encoding.layout();
            let levels: Vec<i16> = layout.levels().collect();
            assert_eq!(levels.len(), 1 << layout.bits());
            assert!(levels.is_sorted() && levels.iter().all(|level| (-128..128).contains(level)));
            assert!(layout.table().iter().all(|&level| level < 128));
            assert!(layout.planes().iter().sum::<u32>() == layout.bits());
        }
        assert_eq!(Encoding::F16.layout().levels().count(), 0);
    }
}

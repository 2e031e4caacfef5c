//! Weight encodings and their sizes.

use super::FormatError;

/// Rows in a panel. Matrices are stored in panels of 16 rows; the last one is padded with zero rows.
pub const PANEL: usize = 16;

/// Columns in a group, which shares a scale in quantized encodings.
pub const GROUP: usize = 32;

/// The encoding of a tensor's elements. `FORMAT.md` describes the layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Encoding {
    /// Contiguous f32 without panels, for norm weights.
    Vector = 1,
    /// f32 panels.
    F32 = 2,
    /// f16 panels.
    F16 = 3,
    /// bfloat16 panels.
    BF16 = 4,
    /// 8 bits, one f16 scale for each row and group of 32 columns. A lossless encoding of GGUF Q8_0 and Q5_0.
    Q8 = 5,
    /// 8 bits, one f32 scale for each row.
    Q8Row = 6,
    /// 4 bits, zero point 8, one f16 scale for each row and group. A lossless encoding of GGUF Q4_0.
    Q4 = 7,
    /// 4 bits, f16 scale and f16 minimum for each row and group. A lossless encoding of GGUF Q4_1.
    Q4Min = 8,
    /// 3 bits, 8 non-uniform levels; two-level scales: 8-bit for each row and group, f32 for each row.
    Q3Nl = 9,
    /// 4 bits, 16 non-uniform levels; scales as [`Encoding::Q3Nl`].
    Q4Nl = 10,
    /// 5 bits, 32 non-uniform levels; scales as [`Encoding::Q3Nl`].
    Q5Nl = 11,
    /// 6 bits, uniform levels, zero point 32; scales as [`Encoding::Q3Nl`].
    Q6 = 12,
}

/// Zero point of the non-uniform levels.
pub const LEVEL_ZERO: u8 = 64;

/// The levels of [`Encoding::Q3Nl`] by code. Fitted by Lloyd's algorithm, with a search for the scale, to groups of
/// 32 normally distributed numbers, some with heavier tails.
pub const LEVELS_3: [u8; 8] = [11, 32, 47, 60, 73, 86, 102, 127];

/// The levels of [`Encoding::Q4Nl`] by code.
pub const LEVELS_4: [u8; 16] = [8, 20, 29, 37, 44, 50, 55, 61, 66, 72, 78, 84, 91, 100, 110, 127];

/// The levels of [`Encoding::Q5Nl`] by code.
pub const LEVELS_5: [u8; 32] = [
    6, 13, 18, 23, 27, 31, 35, 39, 42, 45, 49, 52, 54, 57, 60, 62, 65, 67, 70, 73, 76, 79, 82, 86, 89, 93,
    97, 101, 106, 111, 117, 127,
];

impl Encoding {
    /// All encodings, by number.
    pub const ALL: [Encoding; 12] = [
        Encoding::Vector,
        Encoding::F32,
        Encoding::F16,
        Encoding::BF16,
        Encoding::Q8,
        Encoding::Q8Row,
        Encoding::Q4,
        Encoding::Q4Min,
        Encoding::Q3Nl,
        Encoding::Q4Nl,
        Encoding::Q5Nl,
        Encoding::Q6,
    ];

    /// The encoding with this number in a file.
    ///
    /// # Errors
    /// [`FormatError::UnknownEncoding`].
    pub fn from_number(number: u16) -> Result<Encoding, FormatError> {
        let found = Self::ALL.into_iter().find(|e| *e as u16 == number);
        found.ok_or(FormatError::UnknownEncoding { number })
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Vector => "f32 vector",
            Encoding::F32 => "f32",
            Encoding::F16 => "f16",
            Encoding::BF16 => "bf16",
            Encoding::Q8 => "q8",
            Encoding::Q8Row => "q8row",
            Encoding::Q4 => "q4",
            Encoding::Q4Min => "q4min",
            Encoding::Q3Nl => "q3nl",
            Encoding::Q4Nl => "q4nl",
            Encoding::Q5Nl => "q5nl",
            Encoding::Q6 => "q6",
        }
    }

    /// Bytes of one block: 16 rows by 32 columns with their scales for quantized encodings, 16 rows by 1 column for float
    /// panels, one element for a vector.
    pub const fn block_bytes(self) -> usize {
        match self {
            Encoding::Vector => 4,
            Encoding::F32 => PANEL * 4,
            Encoding::F16 | Encoding::BF16 => PANEL * 2,
            Encoding::Q8 => PANEL * GROUP + PANEL * 2,
            Encoding::Q8Row => PANEL * GROUP,
            Encoding::Q4 => PANEL * GROUP / 2 + PANEL * 2,
            Encoding::Q4Min => PANEL * GROUP / 2 + PANEL * 4,
            Encoding::Q3Nl => PANEL * GROUP * 3 / 8 + PANEL,
            Encoding::Q4Nl => PANEL * GROUP * 4 / 8 + PANEL,
            Encoding::Q5Nl => PANEL * GROUP * 5 / 8 + PANEL,
            Encoding::Q6 => PANEL * GROUP * 6 / 8 + PANEL,
        }
    }

    /// Columns of one block.
    pub const fn block_columns(self) -> usize {
        match self {
            Encoding::Vector | Encoding::F32 | Encoding::F16 | Encoding::BF16 => 1,
            _ => GROUP,
        }
    }

    /// Bytes of a panel's header: 16 f32 row scales, for encodings that have them.
    pub const fn panel_header(self) -> usize {
        if matches!(self, Encoding::Q8Row) || self.has_two_level_scales() { PANEL * 4 } else { 0 }
    }

    /// Whether each group has an 8-bit scale, relative to an f32 scale of the row.
    pub const fn has_two_level_scales(self) -> bool {
        matches!(self, Encoding::Q3Nl | Encoding::Q4Nl | Encoding::Q5Nl | Encoding::Q6)
    }

    /// Bytes of one panel of 16 rows and `columns` columns; `None` on overflow.
    pub fn panel_bytes(self, columns: usize) -> Option<usize> {
        let blocks = columns.div_ceil(self.block_columns());
        blocks.checked_mul(self.block_bytes())?.checked_add(self.panel_header())
    }

    /// Bytes of a tensor; `None` on overflow.
    pub fn tensor_bytes(self, rows: usize, columns: usize) -> Option<usize> {
        match self {
            Encoding::Vector => rows.checked_mul(columns)?.checked_mul(4),
            _ => self.panel_bytes(columns)?.checked_mul(rows.div_ceil(PANEL)),
        }
    }
}

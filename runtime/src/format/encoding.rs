//! The closed list of weight encodings and the size of each.

use super::FormatError;

/// Rows in a panel: every matrix is stored in panels of 16 rows, the last one padded with zero rows.
pub const PANEL: usize = 16;

/// Consecutive input columns that share one scale in the grouped encodings.
pub const GROUP: usize = 32;

/// How the numbers of one tensor are stored. Layouts are drawn in `FORMAT.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Encoding {
    /// Plain contiguous f32, for the norm weights: one row, no panels.
    Vector = 1,
    /// f32 panels.
    F32 = 2,
    /// f16 panels.
    F16 = 3,
    /// bfloat16 panels.
    BF16 = 4,
    /// 8 bits, one f16 scale for each row and group of 32 columns. Holds GGUF Q8_0 and Q5_0 without loss.
    Q8 = 5,
    /// 8 bits, one f32 scale for each row.
    Q8Row = 6,
    /// 4 bits, zero point 8, one f16 scale for each row and group. Holds GGUF Q4_0 without loss.
    Q4 = 7,
    /// 4 bits, f16 scale and f16 minimum for each row and group. Holds GGUF Q4_1 without loss.
    Q4Min = 8,
    /// 3 bits that name one of 8 uneven levels; an 8-bit scale for each group and an f32 scale for each row.
    Q3Nl = 9,
    /// 4 bits, 16 uneven levels; scales as [`Encoding::Q3Nl`].
    Q4Nl = 10,
    /// 5 bits, 32 uneven levels; scales as [`Encoding::Q3Nl`].
    Q5Nl = 11,
    /// 6 bits, even levels, zero point 32; scales as [`Encoding::Q3Nl`].
    Q6 = 12,
}

/// Zero point of the uneven levels.
pub const LEVEL_ZERO: u8 = 64;

/// The levels of [`Encoding::Q3Nl`] by code. Fitted (Lloyd's algorithm with a search of the scale) to groups of 32
/// normal numbers, a part of them with heavier tails.
pub const LEVELS_3: [u8; 8] = [11, 32, 47, 60, 73, 86, 102, 127];

/// The levels of [`Encoding::Q4Nl`] by code.
pub const LEVELS_4: [u8; 16] = [8, 20, 29, 37, 44, 50, 55, 61, 66, 72, 78, 84, 91, 100, 110, 127];

/// The levels of [`Encoding::Q5Nl`] by code.
pub const LEVELS_5: [u8; 32] = [
    6, 13, 18, 23, 27, 31, 35, 39, 42, 45, 49, 52, 54, 57, 60, 62, 65, 67, 70, 73, 76, 79, 82, 86, 89, 93,
    97, 101, 106, 111, 117, 127,
];

impl Encoding {
    /// Every encoding, in the order of their numbers.
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
    pub fn from_number(number: u16) -> Result<Encoding, FormatError> {
        let found = Self::ALL.into_iter().find(|e| *e as u16 == number);
        found.ok_or(FormatError::UnknownEncoding { number })
    }

    /// The name that the command line and reports use.
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

    /// Bytes of one block: 16 rows by 32 columns with their scales for the quantized encodings (16 rows by
    /// 1 column for the float panels, one number for a vector).
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

    /// Columns covered by one block.
    pub const fn block_columns(self) -> usize {
        match self {
            Encoding::Vector | Encoding::F32 | Encoding::F16 | Encoding::BF16 => 1,
            _ => GROUP,
        }
    }

    /// Bytes in front of a panel's blocks: the 16 f32 row scales, where the encoding has them.
    pub const fn panel_header(self) -> usize {
        match self {
            Encoding::Q8Row => PANEL * 4,
            _ if self.has_two_level_scales() => PANEL * 4,
            _ => 0,
        }
    }

    /// Whether this is one of the encodings of 3 to 6 bits with two levels of scales.
    pub const fn has_two_level_scales(self) -> bool {
        matches!(self, Encoding::Q3Nl | Encoding::Q4Nl | Encoding::Q5Nl | Encoding::Q6)
    }

    /// Bytes of one panel of 16 rows and `columns` columns; `None` where that overflows.
    pub fn panel_bytes(self, columns: usize) -> Option<usize> {
        let blocks = columns.div_ceil(self.block_columns());
        blocks.checked_mul(self.block_bytes())?.checked_add(self.panel_header())
    }

    /// Bytes of a whole tensor; `None` where that overflows.
    pub fn tensor_bytes(self, rows: usize, columns: usize) -> Option<usize> {
        match self {
            Encoding::Vector => rows.checked_mul(columns)?.checked_mul(4),
            _ => self.panel_bytes(columns)?.checked_mul(rows.div_ceil(PANEL)),
        }
    }
}

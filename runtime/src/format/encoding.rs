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
}

impl Encoding {
    /// Every encoding, in the order of their numbers.
    pub const ALL: [Encoding; 8] = [
        Encoding::Vector,
        Encoding::F32,
        Encoding::F16,
        Encoding::BF16,
        Encoding::Q8,
        Encoding::Q8Row,
        Encoding::Q4,
        Encoding::Q4Min,
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
        }
    }

    /// Columns covered by one block.
    pub const fn block_columns(self) -> usize {
        match self {
            Encoding::Vector | Encoding::F32 | Encoding::F16 | Encoding::BF16 => 1,
            Encoding::Q8 | Encoding::Q8Row | Encoding::Q4 | Encoding::Q4Min => GROUP,
        }
    }

    /// Bytes in front of a panel's blocks: the 16 f32 row scales of [`Encoding::Q8Row`].
    pub const fn panel_header(self) -> usize {
        match self {
            Encoding::Q8Row => PANEL * 4,
            _ => 0,
        }
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

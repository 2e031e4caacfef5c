//! The types in which sources store weights.

use std::fmt;
use thimble_runtime::format::{Encoding, FloatFormat, WeightCodes};

/// The type of a source's tensor, with GGML's numbers and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the definition")]
#[allow(non_camel_case_types, reason = "GGML's own spelling")]
#[repr(u32)]
pub enum BlockType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    BF16 = 30,
    #[cfg(feature = "ggml")]
    IQ2_XXS = 16,
    #[cfg(feature = "ggml")]
    IQ2_XS = 17,
    #[cfg(feature = "ggml")]
    IQ3_XXS = 18,
    #[cfg(feature = "ggml")]
    IQ1_S = 19,
    #[cfg(feature = "ggml")]
    IQ4_NL = 20,
    #[cfg(feature = "ggml")]
    IQ3_S = 21,
    #[cfg(feature = "ggml")]
    IQ2_S = 22,
    #[cfg(feature = "ggml")]
    IQ4_XS = 23,
    #[cfg(feature = "ggml")]
    IQ1_M = 29,
    #[cfg(feature = "ggml")]
    TQ1_0 = 34,
    #[cfg(feature = "ggml")]
    TQ2_0 = 35,
    #[cfg(feature = "ggml")]
    MXFP4 = 39,
}

impl BlockType {
    /// The types that this crate implements.
    pub const ALL: [BlockType; 13] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q2_K,
        BlockType::Q3_K,
        BlockType::Q4_K,
        BlockType::Q5_K,
        BlockType::Q6_K,
        BlockType::BF16,
    ];

    /// The types read through ggml.
    #[cfg(feature = "ggml")]
    pub const VIA_GGML: [BlockType; 12] = [
        BlockType::IQ2_XXS,
        BlockType::IQ2_XS,
        BlockType::IQ3_XXS,
        BlockType::IQ1_S,
        BlockType::IQ4_NL,
        BlockType::IQ3_S,
        BlockType::IQ2_S,
        BlockType::IQ4_XS,
        BlockType::IQ1_M,
        BlockType::TQ1_0,
        BlockType::TQ2_0,
        BlockType::MXFP4,
    ];

    /// The type with this number in GGUF files, if it can be read.
    pub fn from_number(number: u32) -> Option<BlockType> {
        let known = Self::ALL.into_iter();
        #[cfg(feature = "ggml")]
        let known = known.chain(Self::VIA_GGML);
        let mut known = known;
        known.find(|t| *t as u32 == number)
    }

    /// Numbers in one block.
    pub const fn block_len(self) -> usize {
        self.block().0
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.block().1
    }

    /// Numbers and bytes of one block.
    const fn block(self) -> (usize, usize) {
        match self {
            BlockType::F32 => (1, 4),
            BlockType::F16 | BlockType::BF16 => (1, 2),
            BlockType::Q4_0 => (32, 2 + 16),
            BlockType::Q4_1 => (32, 4 + 16),
            BlockType::Q5_0 => (32, 2 + 4 + 16),
            BlockType::Q5_1 => (32, 4 + 4 + 16),
            BlockType::Q8_0 => (32, 2 + 32),
            BlockType::Q2_K => (256, 16 + 64 + 4),
            BlockType::Q3_K => (256, 32 + 64 + 12 + 2),
            BlockType::Q4_K => (256, 4 + 12 + 128),
            BlockType::Q5_K => (256, 4 + 12 + 32 + 128),
            BlockType::Q6_K => (256, 128 + 64 + 16 + 2),
            #[cfg(feature = "ggml")]
            other => other.block_of_ggml(),
        }
    }

    #[cfg(feature = "ggml")]
    const fn block_of_ggml(self) -> (usize, usize) {
        match self {
            BlockType::IQ2_XXS | BlockType::TQ2_0 => (256, 66),
            BlockType::IQ2_XS => (256, 74),
            BlockType::IQ3_XXS => (256, 98),
            BlockType::IQ1_S => (256, 50),
            BlockType::IQ4_NL => (32, 18),
            BlockType::IQ3_S => (256, 110),
            BlockType::IQ2_S => (256, 82),
            BlockType::IQ4_XS => (256, 136),
            BlockType::IQ1_M => (256, 56),
            BlockType::TQ1_0 => (256, 54),
            BlockType::MXFP4 => (32, 17),
            own => own.block(),
        }
    }

    /// Bytes of a row of `columns` numbers; `None` if the row is not whole blocks or the size overflows.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Writes a number as this float type.
    pub(crate) fn put_float(self, value: f32, out: &mut [u8]) {
        match self {
            BlockType::F16 => out.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            BlockType::BF16 => out.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => out.copy_from_slice(&value.to_le_bytes()),
        }
    }

    /// The encoding that stores every number of this type exactly, if there is one.
    pub fn lossless_encoding(self) -> Option<Encoding> {
        match self {
            BlockType::F32 => Some(Encoding::F32),
            BlockType::F16 => Some(Encoding::F16),
            BlockType::BF16 => Some(Encoding::BF16),
            BlockType::Q4_0 => Some(Encoding::Q4),
            BlockType::Q4_1 => Some(Encoding::Q4Min),
            BlockType::Q5_0 | BlockType::Q8_0 => Some(Encoding::Q8),
            _ => None,
        }
    }

    /// The type that holds rows of `columns` weights of an encoding exactly: with codes and scales if there is such a type,
    /// otherwise as floats.
    pub(super) fn of(encoding: Encoding, columns: usize) -> BlockType {
        // Q8_0 comes after Q5_0, which cannot hold all that Q8 does.
        let mut types = Self::ALL.into_iter().rev();
        let holds = |kind: &BlockType| {
            kind.lossless_encoding() == Some(encoding) && columns.is_multiple_of(kind.block_len())
        };
        types.find(holds).unwrap_or(BlockType::F32)
    }

    /// Whether storing numbers of this type as `encoding` may change them.
    pub fn rounds(self, encoding: Encoding) -> bool {
        // A block's numbers are defined as f32.
        let exact = encoding.layout().codes == WeightCodes::Float(FloatFormat::F32);
        !exact && self.lossless_encoding() != Some(encoding)
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

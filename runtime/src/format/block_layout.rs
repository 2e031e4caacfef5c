//! How an encoding stores weights: the one description that kernels, GPU and converter follow.

/// Rows in a panel. Matrices are stored in panels of 16 rows; the last one is padded with zero rows.
pub const PANEL: usize = 16;

/// Columns in a group, which shares a scale in quantized encodings.
pub const GROUP: usize = 32;

/// Zero point of the levels of [`WeightCodes::NonUniform`].
const LEVEL_ZERO: u8 = 64;

/// Element type of a float encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

/// What a block stores for each weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightCodes {
    /// The weight itself.
    Float(FloatFormat),
    /// A code of `bits` bits whose level is code - `zero`.
    Uniform {
        /// Bits of a code.
        bits: u32,
        /// Code of level 0.
        zero: u8,
    },
    /// The index of one of these levels, in ascending order; 64 stands for level 0. Their number is a power of two, at most
    /// 32, and none is above 127.
    NonUniform(&'static [u8]),
}

/// What a quantized block's levels are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightScales {
    /// No scales: floats.
    None,
    /// One f32 for each row, in the panel's header.
    Row,
    /// One f16 for each row of the block.
    Group,
    /// One f16 for each row of the block, then one f16 minimum, which is added.
    GroupAndMinimum,
    /// One signed byte for each row of the block, relative to an f32 for each row in the panel's header.
    TwoLevel,
}

/// The layout of an encoding's blocks, from which sizes and offsets follow.
///
/// A quantized block has 16 rows and 32 columns: a plane of the codes' low bits, a plane of their high bits, scales, minimums.
/// A plane of `n` bits per code is `n` runs of 64 bytes. Byte `4 * row + j` of a run belongs to row `row` and holds `8 / n`
/// codes, four columns apart from `32 / n * run + j` on, the first one lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    /// The encoding's name on the command line and in reports.
    pub name: &'static str,
    /// Rows of a block and of a panel: 16, or 1 for a vector.
    pub rows: usize,
    /// The weights of a block.
    pub codes: WeightCodes,
    /// The scales of a block.
    pub scales: WeightScales,
}

impl BlockLayout {
    /// Panels of floats.
    pub(super) const fn float(name: &'static str, format: FloatFormat) -> BlockLayout {
        BlockLayout { name, rows: PANEL, codes: WeightCodes::Float(format), scales: WeightScales::None }
    }

    /// Panels of codes and scales.
    pub(super) const fn quantized(
        name: &'static str,
        codes: WeightCodes,
        scales: WeightScales,
    ) -> BlockLayout {
        BlockLayout { name, rows: PANEL, codes, scales }
    }

    /// Bits of one code, or of one float.
    pub const fn bits(&self) -> u32 {
        match self.codes {
            WeightCodes::Float(FloatFormat::F32) => 32,
            WeightCodes::Float(FloatFormat::F16 | FloatFormat::BF16) => 16,
            WeightCodes::Uniform { bits, .. } => bits,
            WeightCodes::NonUniform(levels) => levels.len().ilog2(),
        }
    }

    /// Bits of a code in the planes of low and high bits: the first is the largest power of two, so that no code straddles
    /// bytes. Meaningless for floats.
    pub const fn planes(&self) -> [u32; 2] {
        let bits = self.bits();
        let low = 1 << bits.ilog2();
        [low, bits - low]
    }

    /// Columns of a block: 32, or 1 for floats.
    pub const fn columns(&self) -> usize {
        if matches!(self.codes, WeightCodes::Float(_)) { 1 } else { GROUP }
    }

    /// Bytes of the weights at the front of a block; the scales follow.
    pub const fn code_bytes(&self) -> usize {
        self.rows * self.columns() * self.bits() as usize / 8
    }

    /// Bytes of a block.
    pub const fn bytes(&self) -> usize {
        let scales = match self.scales {
            WeightScales::None | WeightScales::Row => 0,
            WeightScales::TwoLevel => self.rows,
            WeightScales::Group => 2 * self.rows,
            WeightScales::GroupAndMinimum => 4 * self.rows,
        };
        self.code_bytes() + scales
    }

    /// Bytes of the scales in front of a panel's blocks.
    pub const fn panel_header(&self) -> usize {
        match self.scales {
            WeightScales::Row | WeightScales::TwoLevel => 4 * self.rows,
            _ => 0,
        }
    }

    /// The non-uniform levels by code, with the zero point [`BlockLayout::zero_point`]; empty for other encodings.
    pub const fn table(&self) -> &'static [u8] {
        match self.codes {
            WeightCodes::NonUniform(levels) => levels,
            _ => &[],
        }
    }

    /// What stands for level 0: a code, or an entry of the table.
    pub const fn zero_point(&self) -> u8 {
        match self.codes {
            WeightCodes::Float(_) => 0,
            WeightCodes::Uniform { zero, .. } => zero,
            WeightCodes::NonUniform(_) => LEVEL_ZERO,
        }
    }

    /// The code of rows and columns that pad a tensor: that of level 0, or 0 if the encoding has none.
    pub const fn padding_code(&self) -> u8 {
        match self.codes {
            WeightCodes::Uniform { zero, .. } => zero,
            _ => 0,
        }
    }

    /// The level of a code, which is multiplied by the scales.
    ///
    /// # Panics
    /// A non-uniform encoding has no such code.
    pub const fn level(&self, code: u8) -> i16 {
        let number = match self.codes {
            WeightCodes::NonUniform(levels) => levels[code as usize],
            _ => code,
        };
        number as i16 - self.zero_point() as i16
    }

    /// The levels in ascending order; none for floats.
    pub fn levels(&self) -> impl Iterator<Item = i16> {
        let count = if self.scales == WeightScales::None { 0 } else { 1u16 << self.bits() };
        (0..count).map(|code| self.level(code as u8))
    }
}

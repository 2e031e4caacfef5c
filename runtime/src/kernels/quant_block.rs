//! The quantized blocks of FORMAT.md as Rust types: kernels are compiled for each.

use super::blocks::Matrix;
use super::simd::{Block, Simd};
use crate::format::{Encoding, PANEL};
use half::f16;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A quantized block of the encoding with number `NUMBER`: planes of `LOW` and of `HIGH` bits per code, then scales.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct QuantBlock<const NUMBER: u16, const LOW: usize, const HIGH: usize, S> {
    low: [[u8; 64]; LOW],
    high: [[u8; 64]; HIGH],
    scales: S,
}

/// The scales in a block; `()` where they stand in the panel's header.
pub(crate) trait BlockScales: FromBytes + Immutable + KnownLayout {
    /// The rows' scales.
    fn scales<S: Simd>(&self, s: S) -> S::F;
    /// The rows' minimums, if there are any.
    #[inline(always)]
    fn minimums<S: Simd>(&self, _s: S) -> Option<S::F> {
        None
    }
}

/// One f16 scale for each row.
pub(crate) type GroupScales = [f16; PANEL];
/// One signed byte for each row, relative to the scale in the panel's header.
pub(crate) type TwoLevelScales = [i8; PANEL];

impl BlockScales for () {
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S) -> S::F {
        s.splat(1.0)
    }
}

impl BlockScales for GroupScales {
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S) -> S::F {
        s.load_f16(self)
    }
}

impl BlockScales for TwoLevelScales {
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S) -> S::F {
        s.load_i8(self)
    }
}

/// One f16 scale and one f16 minimum for each row.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ScalesAndMinimums {
    scales: GroupScales,
    minimums: [f16; PANEL],
}

impl BlockScales for ScalesAndMinimums {
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S) -> S::F {
        s.load_f16(&self.scales)
    }
    #[inline(always)]
    fn minimums<S: Simd>(&self, s: S) -> Option<S::F> {
        Some(s.load_f16(&self.minimums))
    }
}

/// The encoding with this number.
const fn encoding(number: u16) -> Encoding {
    // Encodings are numbered from one.
    Encoding::ALL[number as usize - 1]
}

/// The levels of a non-uniform encoding in the first entries of a table.
const fn table<const N: usize>(encoding: Encoding) -> [u8; N] {
    let levels = encoding.layout().table();
    let mut table = [0; N];
    let mut code = 0;
    while code < levels.len() && code < N {
        table[code] = levels[code];
        code += 1;
    }
    table
}

/// The bits of one step in a plane of `BITS` bits per code, moved to the place of bit `at` of the code.
#[inline(always)]
fn plane_bits<S: Simd, const BITS: usize>(s: S, plane: &[[u8; 64]; BITS], step: usize, at: i32) -> S::B {
    let steps = 8 / BITS;
    let bytes = s.load_bytes(&plane[step / steps]);
    match (BITS, step % steps) {
        (8, _) => bytes,
        (4, 0) if at == 0 => s.low_nibbles(bytes),
        (4, 1) if at == 0 => s.high_nibbles(bytes),
        (_, within) => s.bits(bytes, (BITS * within) as i32 - at, ((1 << BITS) - 1) << at),
    }
}

impl<const NUMBER: u16, const LOW: usize, const HIGH: usize, Sc: BlockScales> Block
    for QuantBlock<NUMBER, LOW, HIGH, Sc>
{
    const ENCODING: Encoding = encoding(NUMBER);

    #[inline(always)]
    fn codes<S: Simd>(&self, s: S, step: usize) -> S::B {
        let mut codes = plane_bits(s, &self.low, step, 0);
        if HIGH > 0 {
            codes = s.or(codes, plane_bits(s, &self.high, step, LOW as i32));
        }
        match Self::ENCODING.layout().table().len() {
            0 => codes,
            1..=16 => s.lookup(codes, const { &table(encoding(NUMBER)) }),
            _ => s.lookup_32(codes, const { &table(encoding(NUMBER)) }),
        }
    }
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S) -> S::F {
        self.scales.scales(s)
    }
    #[inline(always)]
    fn minimums<S: Simd>(&self, s: S) -> Option<S::F> {
        self.scales.minimums(s)
    }
}

/// Evaluates one of two expressions: for a quantized encoding with `$block` as its block type, for a float encoding with
/// `$element` as its element type.
macro_rules! with_block {
    (@block $encoding:ident $scales:ty, $block:ident => $quantized:expr) => {{
        const PLANES: [u32; 2] = Encoding::$encoding.layout().planes();
        type $block = $crate::kernels::quant_block::QuantBlock<
            { Encoding::$encoding as u16 },
            { PLANES[0] as usize },
            { PLANES[1] as usize },
            $scales,
        >;
        $quantized
    }};
    (@float $type:ty, $element:ident => $float:expr) => {{
        #[allow(dead_code, reason = "AMX has one way for all of them")]
        type $element = $type;
        $float
    }};
    ($encoding:expr, $block:ident => $quantized:expr, $element:ident => $float:expr $(,)?) => {{
        #[allow(unused_imports, reason = "not every place names all")]
        use $crate::kernels::quant_block::{GroupScales, ScalesAndMinimums, TwoLevelScales};
        match $encoding {
            Encoding::Vector | Encoding::F32 => with_block!(@float f32, $element => $float),
            Encoding::F16 => with_block!(@float half::f16, $element => $float),
            Encoding::BF16 => with_block!(@float half::bf16, $element => $float),
            Encoding::Q8 => with_block!(@block Q8 GroupScales, $block => $quantized),
            Encoding::Q8Row => with_block!(@block Q8Row (), $block => $quantized),
            Encoding::Q4 => with_block!(@block Q4 GroupScales, $block => $quantized),
            Encoding::Q4Min => with_block!(@block Q4Min ScalesAndMinimums, $block => $quantized),
            Encoding::Q3Nl => with_block!(@block Q3Nl TwoLevelScales, $block => $quantized),
            Encoding::Q4Nl => with_block!(@block Q4Nl TwoLevelScales, $block => $quantized),
            Encoding::Q5Nl => with_block!(@block Q5Nl TwoLevelScales, $block => $quantized),
            Encoding::Q6 => with_block!(@block Q6 TwoLevelScales, $block => $quantized),
        }
    }};
}
pub(super) use with_block;

// Block types and the table of encodings agree on every size.
const _: () = {
    let mut index = 0;
    while index < Encoding::ALL.len() {
        let encoding = Encoding::ALL[index];
        let block = with_block!(encoding, B => size_of::<B>(), T => size_of::<T>() * encoding.layout().rows);
        assert!(block == encoding.block_bytes() && encoding as usize == index + 1);
        index += 1;
    }
};

impl<'f> Matrix<'f> {
    /// A panel's header of row scales, if the encoding has one, and its blocks.
    #[inline(always)]
    pub(super) fn header_and_blocks<B: Block>(&self, panel: usize) -> (Option<&'f [f32; PANEL]>, &'f [B]) {
        let data = self.panel_of(B::ENCODING, panel);
        let (header, data) = data.split_at(B::ENCODING.panel_header().min(data.len()));
        // The format's checks guarantee the length; an empty panel would yield zeros.
        (<[f32; PANEL]>::ref_from_bytes(header).ok(), <[B]>::ref_from_bytes(data).unwrap_or(&[]))
    }
}

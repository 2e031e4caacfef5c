//! Dequantizes GGML blocks of every [`BlockType`] to f32 (with the feature `ggml`, some through ggml).
//!
//! Layouts and formulas follow `ggml-common.h` and `ggml-quants.c` of ggml (the `dequantize_row_*` functions).

use crate::read::BlockType;
use half::{bf16, f16};

/// Numbers in a k-quant block.
const SUPER: usize = 256;

/// Dequantizes whole blocks to `out`.
///
/// `bytes` holds `out.len() / kind.block_len()` blocks; leftovers on either side are ignored.
pub fn dequantize(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.chunks_exact(kind.block_bytes()).zip(out.chunks_exact_mut(kind.block_len()));
    let each: fn(&[u8], &mut [f32]) = match kind {
        BlockType::F32 => |b, out| out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        BlockType::F16 => |b, out| out[0] = half_at(b, 0),
        BlockType::BF16 => |b, out| out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        BlockType::Q4_0 => |b, out| scaled(codes(BlockType::Q4_0, b), out),
        BlockType::Q4_1 => |b, out| scaled(codes(BlockType::Q4_1, b), out),
        BlockType::Q5_0 => |b, out| scaled(codes(BlockType::Q5_0, b), out),
        BlockType::Q5_1 => |b, out| scaled(codes(BlockType::Q5_1, b), out),
        BlockType::Q8_0 => |b, out| scaled(codes(BlockType::Q8_0, b), out),
        BlockType::Q2_K => q2_k,
        BlockType::Q3_K => q3_k,
        BlockType::Q4_K => q4_k,
        BlockType::Q5_K => q5_k,
        BlockType::Q6_K => q6_k,
        #[cfg(feature = "ggml")]
        other => return crate::ggml::dequantize(other, bytes, out),
    };
    for (block, out) in blocks {
        each(block, out);
    }
}

/// The f16 at byte `at` of a block.
pub(crate) fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Numbers in a block that [`codes`] reads.
pub(crate) const LEN: usize = 32;

/// The codes of a block of 32 numbers: signed around zero, or counted from the minimum.
pub(crate) struct Codes<'b> {
    pub(crate) codes: [i8; LEN],
    /// The scale, and the minimum if the type has one, as f16.
    pub(crate) scales: &'b [u8],
}

/// The codes of a block of Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0; `None` for other types.
pub(crate) fn codes(kind: BlockType, block: &[u8]) -> Option<Codes<'_>> {
    let nibbles = |bytes: &[u8]| -> [u8; LEN] {
        std::array::from_fn(|j| if j < LEN / 2 { bytes[j] & 15 } else { bytes[j - LEN / 2] >> 4 })
    };
    // The fifth bits come before the nibbles.
    let five_bits = |bytes: &[u8]| -> [u8; LEN] {
        let low = nibbles(&bytes[4..]);
        std::array::from_fn(|j| low[j] | ((bytes[j / 8] >> (j % 8)) & 1) << 4)
    };
    let signed = |codes: [u8; LEN], zero: u8| codes.map(|code| code.wrapping_sub(zero) as i8);
    let (codes, head) = match kind {
        BlockType::Q8_0 => (std::array::from_fn(|j| block[2 + j] as i8), 2),
        BlockType::Q4_0 => (signed(nibbles(&block[2..]), 8), 2),
        BlockType::Q5_0 => (signed(five_bits(&block[2..]), 16), 2),
        BlockType::Q4_1 => (signed(nibbles(&block[4..]), 0), 4),
        BlockType::Q5_1 => (signed(five_bits(&block[4..]), 0), 4),
        _ => return None,
    };
    Some(Codes { codes, scales: &block[..head] })
}

fn scaled(block: Option<Codes<'_>>, out: &mut [f32]) {
    let Some(Codes { codes, scales }) = block else { return };
    let scale = half_at(scales, 0);
    out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(code) * scale);
    // Without a minimum nothing is added, which keeps the sign of zeros.
    if scales.len() == 4 {
        let minimum = half_at(scales, 2);
        out.iter_mut().for_each(|out| *out += minimum);
    }
}

fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (scale, minimum) = (half_at(block, 80), half_at(block, 82));
    for (i, out) in out.iter_mut().enumerate().take(SUPER) {
        // Two halves of 128; in each, 32 bytes hold four runs of 32 numbers, two bits apart.
        let (half, within) = (i / 128, i % 128);
        let code = (codes[half * 32 + within % 32] >> (2 * (within / 32))) & 3;
        let packed = scales[i / 16];
        *out = scale * f32::from(packed & 15) * f32::from(code) - minimum * f32::from(packed >> 4);
    }
}

fn q3_k(block: &[u8], out: &mut [f32]) {
    let (high, codes, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half_at(block, 108);
    // Sixteen 6-bit scales: low nibbles in eight bytes, upper bit pairs in the last four.
    let group_scale = |g: usize| {
        let low = if g < 8 { packed[g] & 15 } else { packed[g - 8] >> 4 };
        let upper = (packed[8 + g % 4] >> (2 * (g / 4))) & 3;
        i32::from(low | (upper << 4)) - 32
    };
    for (i, out) in out.iter_mut().enumerate().take(SUPER) {
        let (half, within) = (i / 128, i % 128);
        let low = (codes[half * 32 + within % 32] >> (2 * (within / 32))) & 3;
        let third = (high[i % 32] >> (i / 32)) & 1;
        let code = i32::from(low | (third << 2)) - 4;
        *out = scale * group_scale(i / 16) as f32 * code as f32;
    }
}

/// Scale and minimum `j` (below 8) of the twelve bytes that Q4_K and Q5_K share.
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(minimum))
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, codes) = (&block[4..16], &block[16..144]);
    for (j, out) in out.chunks_exact_mut(32).enumerate().take(8) {
        let (s, m) = scale_and_minimum(packed, j);
        let (s, m) = (scale * s, minimum * m);
        for (out, &byte) in out.iter_mut().zip(&codes[j / 2 * 32..]) {
            let code = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
            *out = s * f32::from(code) - m;
        }
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, high, codes) = (&block[4..16], &block[16..48], &block[48..176]);
    for (j, out) in out.chunks_exact_mut(32).enumerate().take(8) {
        let (s, m) = scale_and_minimum(packed, j);
        let (s, m) = (scale * s, minimum * m);
        for (l, out) in out.iter_mut().enumerate() {
            let byte = codes[j / 2 * 32 + l];
            let low = if j % 2 == 0 { byte & 15 } else { byte >> 4 };
            let fifth = (high[l] >> j) & 1;
            *out = s * f32::from(low | (fifth << 4)) - m;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate().take(SUPER) {
        let (half, within) = (i / 128, i % 128);
        let byte = low[half * 64 + within % 64];
        let nibble = if within < 64 { byte & 15 } else { byte >> 4 };
        let upper = (high[half * 32 + within % 32] >> (2 * (within / 32))) & 3;
        let code = i32::from(nibble | (upper << 4)) - 32;
        *out = scale * f32::from(scales[i / 16] as i8) * code as f32;
    }
}

#[cfg(test)]
#[path = "dequantize_tests.rs"]
mod tests;

//! Quantizes f32 to GGML's blocks of 32, bit-identical to ggml's reference quantizers (`quantize_row_*_ref` in
//! `ggml-quants.c`).

pub(super) use crate::dequantize::LEN;
use crate::dequantize::codes;
use crate::read::BlockType;
use half::f16;

/// Quantizes one block of 32 numbers to `kind` (Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0), `block_bytes` long.
///
/// `None` if a scale or minimum is too large for f16; ggml would store infinity.
pub(crate) fn quantize(kind: BlockType, values: &[f32; LEN], out: &mut [u8]) -> Option<()> {
    match kind {
        BlockType::Q4_0 => symmetric(values, 8, out),
        BlockType::Q5_0 => symmetric(values, 16, out),
        BlockType::Q4_1 => ranged(values, 15, out),
        BlockType::Q5_1 => ranged(values, 31, out),
        _ => eight_bits(values, out),
    }
}

/// `1 / scale`; zero if that overflows (ggml leaves such blocks undefined).
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if scale == 0.0 || inverse.is_infinite() { 0.0 } else { inverse }
}

/// Writes a finite number as f16.
fn put(number: f32, out: &mut [u8]) -> Option<()> {
    let number = f16::from_f32(number);
    out[..2].copy_from_slice(&number.to_le_bytes());
    number.is_finite().then_some(())
}

/// Maps the value of largest magnitude, whose sign determines that of the scale, to code 0; `zero` is the code of zero.
fn symmetric(values: &[f32; LEN], zero: u8, out: &mut [u8]) -> Option<()> {
    let most =
        values.iter().fold(0.0_f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let scale = most / -f32::from(zero);
    let inverse = inverse(scale);
    put(scale, out)?;
    let offset = f32::from(zero) + 0.5;
    put_codes(2 * zero, values.map(|value| (value * inverse + offset) as u8), &mut out[2..]);
    Some(())
}

/// Maps the smallest number to code 0, and the largest to the last code.
fn ranged(values: &[f32; LEN], last: u8, out: &mut [u8]) -> Option<()> {
    // Of zeros with different signs, the first.
    let smallest = values.iter().fold(f32::MAX, |least, &value| if value < least { value } else { least });
    let largest = values.iter().fold(f32::MIN, |most, &value| if value > most { value } else { most });
    let scale = (largest - smallest) / f32::from(last);
    let inverse = inverse(scale);
    put(scale, out)?;
    put(smallest, &mut out[2..])?;
    put_codes(last + 1, values.map(|value| ((value - smallest) * inverse + 0.5) as u8), &mut out[4..]);
    Some(())
}

/// Writes codes below `count` (16 or 32) as nibbles, for 32 after a word of fifth bits.
fn put_codes(count: u8, codes: [u8; LEN], out: &mut [u8]) {
    let codes = codes.map(|code| code.min(count - 1));
    let out = match count {
        32 => {
            let fifth = codes.iter().rev().fold(0, |bits, &code| bits << 1 | u32::from(code >> 4));
            out[..4].copy_from_slice(&fifth.to_le_bytes());
            &mut out[4..]
        }
        _ => out,
    };
    let (low, high) = codes.split_at(LEN / 2);
    out.iter_mut().zip(low.iter().zip(high)).for_each(|(out, (low, high))| *out = low & 15 | high << 4);
}

/// Maps the largest magnitude to code 127 or -127.
fn eight_bits(values: &[f32; LEN], out: &mut [u8]) -> Option<()> {
    let scale = values.iter().fold(0.0_f32, |most, value| value.abs().max(most)) / 127.0;
    let inverse = inverse(scale);
    put(scale, out)?;
    // Rounds half away from zero, like C's roundf.
    out[2..].iter_mut().zip(values).for_each(|(out, value)| *out = (value * inverse).round() as i8 as u8);
    Some(())
}

/// Converts a block to another type losslessly, if that type has the same grid and its codes fit.
pub(super) fn carry_over(from: BlockType, block: &[u8], to: BlockType, out: &mut [u8]) -> Option<()> {
    use BlockType::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let minimum = |kind| matches!(kind, Q4_1 | Q5_1);
    let (zero, last) = match to {
        Q4_0 => (8, 15),
        Q5_0 => (16, 31),
        Q4_1 => (0, 15),
        Q5_1 => (0, 31),
        Q8_0 => (0, 0),
        _ => return None,
    };
    let found = codes(from, block).filter(|_| minimum(from) == minimum(to))?;
    let (head, out) = out.split_at_mut(found.scales.len());
    head.copy_from_slice(found.scales);
    if to == Q8_0 {
        out.iter_mut().zip(found.codes).for_each(|(out, code)| *out = code as u8);
        return Some(());
    }
    let codes = found.codes.map(|code| i16::from(code) + zero);
    if !codes.iter().all(|code| (0..=last).contains(code)) {
        return None;
    }
    put_codes(last as u8 + 1, codes.map(|code| code as u8), out);
    Some(())
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;

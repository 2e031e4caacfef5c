//! Operations on whole rows of activations: norm, quantization, SwiGLU.

use super::blocks::QuantGroup;
use super::simd::Simd;
use crate::format::GROUP;

/// RMS norm of one row: `out = x / sqrt(mean(x^2) + epsilon) * weight` (Zhang and Sennrich 2019, eq. 4).
#[inline(always)]
pub(crate) fn norm<S: Simd>(s: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut squares = s.zero();
    for chunk in chunks {
        let chunk = s.load(chunk);
        squares = s.mul_add(chunk, chunk, squares);
    }
    let squares = s.sum(squares) + rest.iter().map(|x| x * x).sum::<f32>();
    let scale = 1.0 / libm::sqrtf(squares / x.len() as f32 + epsilon);
    let (weights, rest_weights) = weight.as_chunks::<16>();
    let (outs, rest_outs) = out.as_chunks_mut::<16>();
    for ((chunk, weight), out) in chunks.iter().zip(weights).zip(outs) {
        s.store(s.mul(s.mul(s.load(chunk), s.splat(scale)), s.load(weight)), out);
    }
    for ((x, weight), out) in rest.iter().zip(rest_weights).zip(rest_outs) {
        *out = x * scale * weight;
    }
}

/// One group: the largest magnitude is 127 codes, codes are rounded to the nearest, ties to even; what that leaves
/// is rounded in steps 256 times finer.
#[inline(always)]
fn quantize_group<S: Simd>(s: S, x: &[f32; GROUP], out: &mut QuantGroup) {
    let (halves, _) = x.as_chunks::<16>();
    let halves = [s.load(&halves[0]), s.load(&halves[1])];
    let largest = s.largest(s.max(s.abs(halves[0]), s.abs(halves[1])));
    // A group of zeros (or of values whose inverse overflows) becomes zeros. NaN becomes some code or other:
    // a model with such weights says something undefined, and nothing worse.
    let inverse = 127.0 / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    out.step = if inverse == 0.0 { 0.0 } else { largest / (127.0 * 256.0) };
    let (mut codes, mut fine) = ([[0i8; 16]; 2], [[0i8; 16]; 2]);
    for h in 0..2 {
        let scaled = s.mul(halves[h], s.splat(inverse));
        s.store_i8(scaled, &mut codes[h]);
        let rest = s.mul(s.sub(scaled, s.load_i8(&codes[h])), s.splat(256.0));
        // Half a code is 128 fine steps, one more than a byte whose negative must be one too.
        let rest = s.min(s.max(rest, s.splat(-127.0)), s.splat(127.0));
        s.store_i8(rest, &mut fine[h]);
    }
    let (sum, fine_sum);
    (out.codes, sum) = words(&codes);
    (out.fine, fine_sum) = words(&fine);
    out.steps = 256 * sum + fine_sum;
    out.sum = out.step * out.steps as f32;
}

/// 32 signed bytes as words of four, and their sum.
#[inline(always)]
fn words(codes: &[[i8; 16]; 2]) -> ([i32; GROUP / 4], i32) {
    let codes = codes.as_flattened();
    let mut words = [0; GROUP / 4];
    for (word, codes) in words.iter_mut().zip(codes.as_chunks::<4>().0) {
        // Not `map`: what it calls is compiled without the instruction set.
        *word = i32::from_le_bytes([codes[0] as u8, codes[1] as u8, codes[2] as u8, codes[3] as u8]);
    }
    (words, codes.iter().map(|&code| i32::from(code)).sum())
}

/// Quantizes up to `width` rows of `columns` numbers into one tile: for each group, `width` tokens side by
/// side; tokens past the last row are zeros.
#[inline(always)]
pub(crate) fn quantize_tile<S: Simd>(
    s: S,
    rows: &[f32],
    columns: usize,
    width: usize,
    tile: &mut [QuantGroup],
) {
    for t in 0..width {
        let row = rows.get(t * columns..(t + 1) * columns).unwrap_or(&[]);
        let (groups, rest) = row.as_chunks::<GROUP>();
        let mut places = tile.iter_mut().skip(t).step_by(width);
        for (group, place) in groups.iter().zip(&mut places) {
            quantize_group(s, group, place);
        }
        // A token past the last takes no place here: all of its groups are cleared below.
        if !rest.is_empty()
            && let Some(place) = places.next()
        {
            let mut group = [0.0; GROUP];
            group[..rest.len()].copy_from_slice(rest);
            quantize_group(s, &group, place);
        }
        for place in places {
            *place = QuantGroup::default();
        }
    }
}

#[inline(always)]
fn silu_times<S: Simd>(s: S, gate: S::F, up: S::F) -> S::F {
    let one = s.splat(1.0);
    let sigmoid = s.div(one, s.add(one, s.exp(s.sub(s.zero(), gate))));
    s.mul(s.mul(gate, sigmoid), up)
}

/// SwiGLU in place: `gate = gate * sigmoid(gate) * up` (Shazeer 2020).
#[inline(always)]
pub(crate) fn swiglu<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    let (gates, rest_gates) = gate.as_chunks_mut::<16>();
    let (ups, rest_ups) = up.as_chunks::<16>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        let product = silu_times(s, s.load(gate), s.load(up));
        s.store(product, gate);
    }
    if !rest_gates.is_empty() {
        let (mut gate, mut up) = ([0.0; 16], [0.0; 16]);
        gate[..rest_gates.len()].copy_from_slice(rest_gates);
        up[..rest_ups.len()].copy_from_slice(rest_ups);
        let product = s.array(silu_times(s, s.load(&gate), s.load(&up)));
        rest_gates.copy_from_slice(&product[..rest_gates.len()]);
    }
}

//! Operations on whole rows of activations: norm, quantization, SwiGLU.

use super::blocks::QuantGroup;
use super::simd::{Simd, Work};
use crate::format::GROUP;

/// RMS norm of one row: `out = x / sqrt(mean(x^2) + epsilon) * weight` (Zhang and Sennrich 2019, eq. 4).
pub(super) struct Norm<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) out: &'a mut [f32],
}

impl Work for Norm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Norm { x, weight, epsilon, out } = self;
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
}

/// Quantizes one group: the largest magnitude becomes code 127, codes are rounded to the nearest, ties to even, and their
/// rounding error is rounded in steps 256 times finer.
#[inline(always)]
fn quantize_group<S: Simd>(s: S, x: &[f32; GROUP], out: &mut QuantGroup) {
    let (halves, _) = x.as_chunks::<16>();
    let halves = [s.load(&halves[0]), s.load(&halves[1])];
    let largest = s.largest(s.max(s.abs(halves[0]), s.abs(halves[1])));
    // A group of zeros (or of values whose inverse overflows) becomes zeros. Codes of NaN are unspecified: a model
    // with such weights generates unspecified text.
    let inverse = 127.0 / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    out.step = if inverse == 0.0 { 0.0 } else { largest / (127.0 * 256.0) };
    let mut steps = s.zero();
    for h in 0..2 {
        let scaled = s.mul(halves[h], s.splat(inverse));
        let code = s.round(scaled);
        let rest = s.mul(s.sub(scaled, code), s.splat(256.0));
        // Half a code is 128 fine steps, one more than a byte whose negative must be one too.
        let fine = s.round(s.min(s.max(rest, s.splat(-127.0)), s.splat(127.0)));
        s.store_i8(code, half_of(&mut out.codes, h));
        s.store_i8(fine, half_of(&mut out.fine, h));
        steps = s.add(steps, s.mul_add(code, s.splat(256.0), fine));
    }
    // At most 2^20, so that the sum of floats is exact.
    out.steps = s.sum(steps) as i32;
    out.sum = out.step * out.steps as f32;
}

/// Half `h` of a plane's 32 signed bytes.
#[inline(always)]
fn half_of(plane: &mut [i32; GROUP / 4], h: usize) -> &mut [i8; 16] {
    let bytes: &mut [[i8; 16]; 2] = zerocopy::transmute_mut!(plane);
    &mut bytes[h]
}

/// Quantizes up to `width` rows of `columns` elements to one tile, `[groups, width]`; missing rows are zeros.
pub(super) struct QuantizeTile<'a> {
    pub(super) rows: &'a [f32],
    pub(super) columns: usize,
    pub(super) width: usize,
    pub(super) tile: &'a mut [QuantGroup],
}

impl Work for QuantizeTile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let QuantizeTile { rows, columns, width, tile } = self;
        for t in 0..width {
            let row = rows.get(t * columns..(t + 1) * columns).unwrap_or(&[]);
            let (groups, rest) = row.as_chunks::<GROUP>();
            let mut places = tile.iter_mut().skip(t).step_by(width);
            for (group, place) in groups.iter().zip(&mut places) {
                quantize_group(s, group, place);
            }
            // A missing row has no rest: all of its groups are cleared below.
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
}

#[inline(always)]
fn silu_times<S: Simd>(s: S, gate: S::F, up: S::F) -> S::F {
    let one = s.splat(1.0);
    let sigmoid = s.div(one, s.add(one, s.exp(s.sub(s.zero(), gate))));
    s.mul(s.mul(gate, sigmoid), up)
}

/// SwiGLU in place: `gate = gate * sigmoid(gate) * up` (Shazeer 2020).
pub(super) struct SwiGlu<'a> {
    pub(super) gate: &'a mut [f32],
    pub(super) up: &'a [f32],
}

impl Work for SwiGlu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SwiGlu { gate, up } = self;
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
}

//! Elementary functions written so that the compiler makes vector code of loops over them.

/// e^x: range reduction by ln 2 in two parts, a polynomial of degree 6 (Cephes, expf), the exponent put in by bits.
/// Relative error below 2e-7 for |x| < 87; below that it goes to the smallest normal numbers, above it saturates.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 x 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * (r * r) + r + 1.0;
    // The low bits of `rounded` are n, offset by those of ROUND: a conversion would have to look out for NaN, one by
    // one.
    p * f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits() - 127) << 23)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Lanes of the reductions below: wide enough for one 512-bit register, and the order of summation.
const LANES: usize = 16;

#[inline(always)]
fn fold(lanes: [f32; LANES], tail: f32) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0] + tail
}

/// Sum of `f(a, b)` over two slices of one length, in a fixed order.
#[inline(always)]
pub(super) fn sum_zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b[..a.len()].as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    fold(lanes, a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum())
}

/// Sum of `f(a, b, c)` over three slices of one length, in a fixed order.
#[inline(always)]
pub(super) fn sum_zip3(a: &[f32], b: &[f32], c: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b[..a.len()].as_chunks::<LANES>();
    let (c_chunks, c_rest) = c[..a.len()].as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i], c[i]);
        }
    }
    fold(lanes, a_rest.iter().zip(b_rest).zip(c_rest).map(|((&a, &b), &c)| f(a, b, c)).sum())
}

/// Largest value, -inf for none.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Replaces each value by e^(value - shift); returns their sum.
#[inline(always)]
pub(super) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - shift);
            lanes[i] += chunk[i];
        }
    }
    let mut tail = 0.0;
    for value in rest {
        *value = exp(*value - shift);
        tail += *value;
    }
    fold(lanes, tail)
}

/// Sums of a student's and a teacher's logits, for the divergence of their softmaxes.
#[derive(Clone, Copy)]
pub(super) struct DivergenceSums {
    /// Of e^(logit - largest), of the student and of the teacher.
    pub(super) student: f32,
    pub(super) teacher: f32,
    /// Of the teacher's times the difference of the shifted logits, teacher's minus student's.
    pub(super) difference: f32,
}

/// Replaces both models' logits by e^(logit - largest); returns the sums.
#[inline(always)]
pub(super) fn exp_sums(student: &mut [f32], teacher: &mut [f32]) -> DivergenceSums {
    let shifts = [max(student), max(teacher)];
    let add = |s: &mut f32, t: &mut f32, sums: [&mut f32; 3]| {
        let (shifted_s, shifted_t) = (*s - shifts[0], *t - shifts[1]);
        (*s, *t) = (exp(shifted_s), exp(shifted_t));
        *sums[0] += *s;
        *sums[1] += *t;
        *sums[2] += *t * (shifted_t - shifted_s);
    };
    let (s_chunks, s_rest) = student.as_chunks_mut::<LANES>();
    let (t_chunks, t_rest) = teacher.as_chunks_mut::<LANES>();
    let mut lanes = [[0.0; LANES]; 3];
    for (s, t) in s_chunks.iter_mut().zip(t_chunks) {
        for i in 0..LANES {
            let [a, b, c] = &mut lanes;
            add(&mut s[i], &mut t[i], [&mut a[i], &mut b[i], &mut c[i]]);
        }
    }
    let mut tail = [0.0; 3];
    for (s, t) in s_rest.iter_mut().zip(t_rest) {
        let [a, b, c] = &mut tail;
        add(s, t, [a, b, c]);
    }
    DivergenceSums {
        student: fold(lanes[0], tail[0]),
        teacher: fold(lanes[1], tail[1]),
        difference: fold(lanes[2], tail[2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        let mut worst = 0.0f64;
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let truth = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - truth) / truth).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1e30) > 1e38 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_match_plain_sums() {
        for n in [0, 1, 15, 16, 17, 31, 32, 33, 100] {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let plain: f64 = a.iter().map(|&x| f64::from(x * x)).sum();
            assert!((f64::from(sum_zip(&a, &a, |x, y| x * y)) - plain).abs() < 1e-5);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&a), largest);
            let mut e = a.clone();
            let sum = exp_sum(&mut e, 0.5);
            let truth: f64 = a.iter().map(|&x| f64::from(x - 0.5).exp()).sum();
            assert!((f64::from(sum) - truth).abs() < 1e-4 * truth.max(1.0));
        }
    }
}

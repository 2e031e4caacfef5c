//! Rounding with error compensation: GPTQ (Frantar et al., arXiv 2210.17323) in the form of LDLQ (Chee et al., arXiv
//! 2307.13304, which proves both the same).
//!
//! With the second moments H of the inputs, an error E of the weights costs tr(E H E^T). Let H = M M^T with M upper
//! triangular: the cost is the sum over columns k of (sum over j <= k of E_j M_jk)^2. So the target of column k moves by
//! the errors of the columns before it, weighted with M_jk / M_kk, and the remaining error costs M_kk^2.

use crate::pack;
use crate::quantize::{Distortion, Quantizer, RowError};
use rayon::prelude::*;
use std::ops::{AddAssign, Mul};
use thimble_runtime::format::{Encoding, GROUP, PANEL};

/// Second moments of a matrix's inputs, `columns x columns`, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    /// Inputs.
    pub(crate) columns: usize,
    /// Symmetric.
    pub(crate) values: Vec<f64>,
}

/// How the errors of columns are fed forward.
pub(crate) struct Feedback {
    columns: usize,
    /// For each group of columns, rows of [`GROUP`]: M_jk / M_kk for every j below the group's end, zero for j >= k.
    slabs: Vec<Vec<f32>>,
    /// M_kk^2, the cost of a column's remaining error.
    weights: Vec<f32>,
    /// M, row-major.
    factor: Vec<f32>,
}

impl Moments {
    /// The mean of the diagonal.
    pub(crate) fn mean(&self) -> f64 {
        let diagonal = self.values.iter().step_by(self.columns + 1);
        diagonal.sum::<f64>() / self.columns.max(1) as f64
    }

    /// Adds a fraction of the diagonal's mean to the diagonal.
    pub(crate) fn damp(&mut self, part: f64) {
        // If all inputs are zero, any error is as good as another.
        let more = if self.mean() > 0.0 { part * self.mean() } else { 1.0 };
        self.values.iter_mut().step_by(self.columns + 1).for_each(|v| *v += more);
    }

    /// The upper triangular M with M M^T = H, row-major; `None` if H is not positive definite.
    fn factor(&self) -> Option<Vec<f64>> {
        let n = self.columns;
        // With both dimensions reversed, this is the ordinary Cholesky factorization H = L L^T with contiguous rows.
        let mut l: Vec<f64> = self.values.iter().rev().copied().collect();
        cholesky(&mut l, n)?;
        l.reverse();
        Some(l)
    }

    /// The feedback for rounding; `None` if the moments are not positive definite.
    pub(crate) fn feedback(&self) -> Option<Feedback> {
        let n = self.columns;
        let m = self.factor()?;
        let weights: Vec<f32> = (0..n).map(|k| m[k * n + k].powi(2) as f32).collect();
        let slab = |group: usize| {
            let first = group * GROUP;
            let end = n.min(first + GROUP);
            let mut slab = vec![0.0; end * GROUP];
            for (j, out) in slab.chunks_exact_mut(GROUP).enumerate() {
                for (k, out) in (first..end).zip(out) {
                    if j < k {
                        *out = (m[j * n + k] / m[k * n + k]) as f32;
                    }
                }
            }
            slab
        };
        let slabs = (0..n.div_ceil(GROUP)).into_par_iter().map(slab).collect();
        Some(Feedback { columns: n, slabs, weights, factor: m.iter().map(|&v| v as f32).collect() })
    }
}

impl Feedback {
    /// The change D of the weights that minimizes the squared length of D X - T plus that of D times the damping.
    ///
    /// In place: `wish` is T X^T, rows of `columns` numbers, and becomes D = T X^T H^-1.
    pub(crate) fn solve(&self, correction: &mut [f32]) {
        let (n, factor) = (self.columns, &self.factor);
        correction.par_chunks_mut(n * TOGETHER).for_each(|rows| {
            for j in (0..n).rev() {
                let m = &factor[j * n..][..n];
                for row in rows.chunks_exact_mut(n) {
                    row[j] = (row[j] - dot(&row[j + 1..], &m[j + 1..])) / m[j];
                }
            }
            for j in 0..n {
                let m = &factor[j * n..][..n];
                for row in rows.chunks_exact_mut(n) {
                    let done = row[j] / m[j];
                    row[j] = done;
                    row[j + 1..].iter_mut().zip(&m[j + 1..]).for_each(|(d, m)| *d -= done * m);
                }
            }
        });
    }
}

/// Rows solved together, for cache reuse of the factor.
const TOGETHER: usize = 8;

/// Columns per block of the factorization.
const BLOCK: usize = 64;

/// Replaces the lower triangle of a symmetric `n x n` matrix by its Cholesky factor and the upper one by zeros.
///
/// `None` if it is not positive definite. The order of summation does not depend on the number of threads.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        // The columns before the block are done and subtracted.
        for k in start..end {
            let (above, row) = a.split_at_mut(k * n);
            let mut pivot = row[k];
            for j in start..k {
                let known = &above[j * n..j * n + j + 1];
                let sum = dot(&row[start..j], &known[start..j]);
                row[j] = (row[j] - sum) / known[j];
                pivot -= row[j] * row[j];
            }
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            row[k] = pivot.sqrt();
        }
        let (done, rest) = a.split_at_mut(end * n);
        rest.par_chunks_mut(n).for_each(|row| {
            for k in start..end {
                let known = &done[k * n..][..k + 1];
                row[k] = (row[k] - dot(&row[start..k], &known[start..k])) / known[k];
            }
        });
        let factors: Vec<f64> = rest.chunks(n).flat_map(|row| row[start..end].iter().copied()).collect();
        let width = end - start;
        rest.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            let own = &factors[i * width..][..width];
            for (j, other) in factors.chunks_exact(width).take(i + 1).enumerate() {
                row[end + j] -= dot(own, other);
            }
        });
    }
    for k in 0..n {
        a[k * n + k + 1..(k + 1) * n].fill(0.0);
    }
    Some(())
}

/// A dot product with sixteen partial sums, which the compiler vectorizes.
fn dot<T: Copy + Default + Mul<Output = T> + AddAssign>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::default(); 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let mut total = T::default();
    sums.into_iter().for_each(|sum| total += sum);
    a_rest.iter().zip(b_rest).for_each(|(&a, &b)| total += a * b);
    total
}

/// Rounds a matrix (rows of `feedback.columns` numbers) to panels of an encoding.
///
/// The distortion is unweighted. Errors are those of [`encode_panel`](crate::quantize::encode_panel).
pub(crate) fn round(
    quantizer: Quantizer,
    encoding: Encoding,
    weights: &[f32],
    feedback: &Feedback,
) -> Result<(Vec<u8>, Distortion), RowError> {
    let columns = feedback.columns;
    let rows = weights.len() / columns;
    let panel_bytes = encoding.panel_bytes(columns).unwrap_or(0);
    let mut out = vec![0; rows.div_ceil(PANEL) * panel_bytes];
    let panels = out.par_chunks_mut(panel_bytes).zip(weights.par_chunks(PANEL * columns));
    let distortions: Vec<Distortion> = panels
        .enumerate()
        .map(|(index, (panel, weights))| {
            let done = round_panel(quantizer, encoding, weights, feedback, panel);
            done.map_err(|row| RowError::TooLarge { row: index * PANEL + row })
        })
        .collect::<Result<_, _>>()?;
    let mut distortion = Distortion::default();
    distortions.into_iter().for_each(|l| distortion.add(l));
    Ok((out, distortion))
}

/// Rounds up to 16 rows; `Err` holds the row whose scale is too large.
fn round_panel(
    quantizer: Quantizer,
    encoding: Encoding,
    weights: &[f32],
    feedback: &Feedback,
    panel: &mut [u8],
) -> Result<Distortion, usize> {
    let columns = feedback.columns;
    pack::clear(encoding, panel);
    let rows = weights.len() / columns;
    let plans: Vec<_> =
        weights.chunks_exact(columns).map(|row| quantizer.row_scales(row, &feedback.weights)).collect();
    for (row, plan) in plans.iter().enumerate() {
        quantizer.put_row_scale(panel, row, plan);
    }
    let blocks = &mut panel[encoding.panel_header()..];
    let mut errors = vec![0.0f32; rows * columns];
    let mut distortion = Distortion::default();
    for (group, block) in blocks.chunks_exact_mut(encoding.block_bytes()).enumerate() {
        let (first, end) = (group * GROUP, columns.min((group + 1) * GROUP));
        let slab = &feedback.slabs[group];
        for row in 0..rows {
            let source = &weights[row * columns..][..columns];
            let errors = &mut errors[row * columns..][..columns];
            let mut target = [0.0f32; GROUP];
            target[..end - first].copy_from_slice(&source[first..end]);
            for (&error, slab) in errors[..first].iter().zip(slab.chunks_exact(GROUP)) {
                for (target, &part) in target.iter_mut().zip(slab) {
                    *target += error * part;
                }
            }
            let count = end - first;
            let fit = quantizer
                .group_scale(&plans[row], &target[..count], &feedback.weights[first..end])
                .ok_or(row)?;
            let mut codes = [encoding.layout().padding_code(); GROUP];
            for k in 0..count {
                let code = quantizer.code(&fit, target[k]);
                let value = quantizer.value(&fit, code);
                if !value.is_finite() {
                    return Err(row);
                }
                codes[k] = code;
                let error = source[first + k] - value;
                errors[first + k] = error;
                let slab = &slab[(first + k) * GROUP..][..GROUP];
                for (target, &part) in target[k + 1..].iter_mut().zip(&slab[k + 1..]) {
                    *target += error * part;
                }
                distortion.error += f64::from(error).powi(2);
                distortion.energy += f64::from(source[first + k]).powi(2);
            }
            quantizer.put_group(block, row, &codes, &fit);
        }
    }
    Ok(distortion)
}

#[cfg(test)]
#[path = "ldlq_tests.rs"]
mod tests;

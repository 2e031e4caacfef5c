//! Ridge regression (Hoerl and Kennard 1970), solved exactly; cross-validation chooses how much is shrunk.

use crate::error::{CurateError, Result};

/// Shares of the mean variance of a value that are added to the diagonal.
pub const RIDGES: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Parts of the examples, each of which is left out once.
const FOLDS: usize = 5;

/// A fitted line.
#[derive(Clone, Debug, PartialEq)]
pub struct RidgeFit {
    /// A weight for each value.
    pub weights: Vec<f64>,
    /// What is added.
    pub bias: f64,
    /// The share of [`RIDGES`] that was chosen.
    pub ridge: f64,
    /// The mean squared error in cross-validation.
    pub error: f64,
}

/// Sums of products over some examples; they are added to one another.
#[derive(Clone)]
struct Moments {
    width: usize,
    count: f64,
    sum: Vec<f64>,
    /// The lower triangle of the sums of products of two values, by row.
    products: Vec<f64>,
    label: f64,
    labelled: Vec<f64>,
}

/// Fits `labels` to `embeddings`, all of the same length, by the ridge of [`RIDGES`] with the least error in five-fold
/// cross-validation. The same examples give the same weights.
///
/// # Errors
/// Fewer than ten examples, different lengths, values that are not numbers.
pub fn fit(embeddings: &[Vec<f32>], labels: &[f64]) -> Result<RidgeFit> {
    let width = embeddings.first().map_or(0, Vec::len);
    let finite = |values: &[f32]| values.len() == width && values.iter().all(|value| value.is_finite());
    if embeddings.len() < 2 * FOLDS || embeddings.len() != labels.len() || width == 0 {
        return Err(CurateError::Invalid(format!(
            "expected at least {} labelled documents, found {}; label more, as with `score annotate`",
            2 * FOLDS,
            embeddings.len().min(labels.len())
        )));
    }
    if !embeddings.iter().all(|values| finite(values)) || !labels.iter().all(|label| label.is_finite()) {
        return Err(CurateError::Invalid(
            "expected embeddings of one length and labels that are numbers, found others".into(),
        ));
    }
    let fold = |at: usize| embeddings.iter().zip(labels).skip(at).step_by(FOLDS);
    let folds: Vec<Moments> = (0..FOLDS)
        .map(|at| {
            let mut moments = Moments::new(width);
            fold(at).for_each(|(values, &label)| moments.add(values, label));
            moments
        })
        .collect();
    let mut best: Option<(f64, f64)> = None;
    for ridge in RIDGES {
        let mut error = 0.0;
        for left_out in 0..FOLDS {
            let others = folds.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, fold)| fold);
            let (weights, bias) = Moments::total(width, others).solve(ridge)?;
            error +=
                fold(left_out).map(|(x, label)| (predict(&weights, bias, x) - label).powi(2)).sum::<f64>();
        }
        let error = error / labels.len() as f64;
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, ridge));
        }
    }
    let (error, ridge) = best.unwrap_or((f64::NAN, RIDGES[0]));
    let (weights, bias) = Moments::total(width, folds.iter()).solve(ridge)?;
    Ok(RidgeFit { weights, bias, ridge, error })
}

/// The line's value.
pub(super) fn predict(weights: &[f64], bias: f64, embedding: &[f32]) -> f64 {
    bias + weights.iter().zip(embedding).map(|(weight, &value)| weight * f64::from(value)).sum::<f64>()
}

impl Moments {
    fn new(width: usize) -> Moments {
        Moments {
            width,
            count: 0.0,
            sum: vec![0.0; width],
            products: vec![0.0; width * (width + 1) / 2],
            label: 0.0,
            labelled: vec![0.0; width],
        }
    }

    fn add(&mut self, values: &[f32], label: f64) {
        self.count += 1.0;
        self.label += label;
        let mut row = 0;
        for (i, &value) in values.iter().enumerate() {
            let value = f64::from(value);
            self.sum[i] += value;
            self.labelled[i] += value * label;
            let products = &mut self.products[row..row + i + 1];
            products.iter_mut().zip(values).for_each(|(sum, &other)| *sum += value * f64::from(other));
            row += i + 1;
        }
    }

    fn total<'m>(width: usize, parts: impl Iterator<Item = &'m Moments>) -> Moments {
        let mut total = Moments::new(width);
        let add = |sums: &mut Vec<f64>, other: &[f64]| {
            sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        };
        for part in parts {
            total.count += part.count;
            total.label += part.label;
            add(&mut total.sum, &part.sum);
            add(&mut total.products, &part.products);
            add(&mut total.labelled, &part.labelled);
        }
        total
    }

    /// Weights and bias, by Cholesky's decomposition of the covariance with the ridge on its diagonal.
    fn solve(mut self, ridge: f64) -> Result<(Vec<f64>, f64)> {
        let (width, n) = (self.width, self.count.max(1.0));
        let start = |i: usize| i * (i + 1) / 2;
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / n).collect();
        let label = self.label / n;
        let a = &mut self.products;
        for i in 0..width {
            for j in 0..=i {
                a[start(i) + j] = a[start(i) + j] / n - mean[i] * mean[j];
            }
        }
        let variance = (0..width).map(|i| a[start(i) + i]).sum::<f64>() / width as f64;
        // Where no value varies, any ridge makes all weights zero.
        let added = (ridge * variance).max(1e-12);
        (0..width).for_each(|i| a[start(i) + i] += added);
        for i in 0..width {
            for j in 0..=i {
                let dot: f64 = a[start(i)..start(i) + j]
                    .iter()
                    .zip(&a[start(j)..start(j) + j])
                    .map(|(x, y)| x * y)
                    .sum();
                let rest = a[start(i) + j] - dot;
                if i > j {
                    a[start(i) + j] = rest / a[start(j) + j];
                } else if rest > 0.0 {
                    a[start(i) + j] = rest.sqrt();
                } else {
                    return Err(CurateError::Invalid(
                        "the embeddings have no covariance that can be inverted; label more documents".into(),
                    ));
                }
            }
        }
        let mut weights: Vec<f64> = (0..width).map(|i| self.labelled[i] / n - mean[i] * label).collect();
        for i in 0..width {
            let dot: f64 = (0..i).map(|j| a[start(i) + j] * weights[j]).sum();
            weights[i] = (weights[i] - dot) / a[start(i) + i];
        }
        for i in (0..width).rev() {
            let dot: f64 = (i + 1..width).map(|j| a[start(j) + i] * weights[j]).sum();
            weights[i] = (weights[i] - dot) / a[start(i) + i];
        }
        let bias = label - weights.iter().zip(&mean).map(|(weight, mean)| weight * mean).sum::<f64>();
        Ok((weights, bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a line, with noise that repeats.
    fn examples(n: usize, noise: f64) -> (Vec<Vec<f32>>, Vec<f64>) {
        let value = |i: usize, by: usize| ((i * by) % 17) as f32 / 17.0 - 0.5;
        let x: Vec<Vec<f32>> = (0..n).map(|i| vec![value(i, 3), value(i, 5), value(i * i, 7)]).collect();
        let label = |(i, x): (usize, &Vec<f32>)| {
            2.0 + 3.0 * f64::from(x[0]) - f64::from(x[1]) + noise * (i % 3) as f64
        };
        let labels = x.iter().enumerate().map(label).collect();
        (x, labels)
    }

    #[test]
    fn a_line_is_found() {
        let (x, labels) = examples(200, 0.0);
        let fit = fit(&x, &labels).unwrap();
        assert_eq!(fit.ridge, RIDGES[0]);
        for (found, expected) in fit.weights.iter().zip([3.0, -1.0, 0.0]) {
            assert!((found - expected).abs() < 2e-3, "{fit:?}");
        }
        assert!((fit.bias - 2.0).abs() < 1e-3 && fit.error < 1e-4, "{fit:?}");
    }

    #[test]
    fn few_noisy_examples_are_shrunk_and_constant_ones_give_the_mean() {
        let (x, labels) = examples(12, 4.0);
        assert!(fit(&x, &labels).unwrap().ridge > RIDGES[0]);
        let fit = fit(&vec![vec![1.0; 4]; 20], &[3.0; 20]).unwrap();
        assert!((predict(&fit.weights, fit.bias, &[1.0; 4]) - 3.0).abs() < 1e-9, "{fit:?}");
    }

    #[test]
    fn bad_examples_are_refused() {
        let (x, labels) = examples(20, 0.0);
        assert!(fit(&x[..9], &labels[..9]).is_err());
        assert!(fit(&x, &labels[..19]).is_err());
        let mut other = x.clone();
        other[3][1] = f32::NAN;
        assert!(fit(&other, &labels).is_err());
        other[3] = vec![0.0];
        assert!(fit(&other, &labels).is_err());
        assert!(fit(&vec![Vec::new(); 20], &labels).is_err());
    }
}

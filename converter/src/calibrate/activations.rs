//! Activations in the f32 model and in the quantized one, with one tensor for each window.

use super::ops;
use candle_core::{Result as Computed, Tensor};
use rayon::prelude::*;

/// Windows whose products are summed sequentially; shards run in parallel. Fixed, so that sums do not depend on the
/// number of threads.
const SHARD: usize = 4;

/// One of the two models.
#[derive(Clone, Copy)]
pub(crate) enum Model {
    Reference,
    Quantized,
}

/// The same activations in both models. Shape of each window: tokens x width.
pub(crate) struct Activations {
    /// In the f32 model.
    pub(crate) reference: Vec<Tensor>,
    /// In the model as quantized so far.
    pub(crate) quantized: Vec<Tensor>,
}

impl Activations {
    /// Applies a function to each tensor, with the model that it belongs to.
    pub(crate) fn map(&self, f: impl Fn(&Tensor, Model) -> Computed<Tensor> + Sync) -> Computed<Activations> {
        let pairs = self.reference.par_iter().zip(&self.quantized);
        let pairs = pairs.map(|(r, q)| Ok((f(r, Model::Reference)?, f(q, Model::Quantized)?)));
        let (reference, quantized) = pairs.collect::<Computed<Vec<_>>>()?.into_iter().unzip();
        Ok(Activations { reference, quantized })
    }

    /// The sum of two activations.
    pub(crate) fn add(&self, other: &Activations) -> Computed<Activations> {
        let sum = |a: &[Tensor], b: &[Tensor]| {
            a.par_iter().zip(b).map(|(a, b)| ops::add(a, b)).collect::<Computed<Vec<_>>>()
        };
        Ok(Activations {
            reference: sum(&self.reference, &other.reference)?,
            quantized: sum(&self.quantized, &other.quantized)?,
        })
    }

    /// The f32 model's activations minus the quantized ones, for each window.
    pub(crate) fn difference(&self) -> Computed<Vec<Tensor>> {
        self.reference.par_iter().zip(&self.quantized).map(|(f, s)| ops::subtract(f, s)).collect()
    }
}

/// Sum over windows of `left`^T `right`, row-major.
pub(crate) fn products(left: &[Tensor], right: &[Tensor]) -> Computed<Vec<f64>> {
    let shards = left.par_chunks(SHARD).zip(right.par_chunks(SHARD)).map(|(left, right)| {
        let mut sum: Option<Tensor> = None;
        for (left, right) in left.iter().zip(right) {
            let product = left.t()?.matmul(right)?;
            sum = Some(match sum {
                None => product,
                Some(sum) => ops::add(&sum, &product)?,
            });
        }
        sum.map(|sum| sum.flatten_all()?.to_vec1::<f32>()).transpose()
    });
    let mut total: Vec<f64> = Vec::new();
    for shard in shards.collect::<Computed<Vec<_>>>()?.into_iter().flatten() {
        total.resize(shard.len(), 0.0);
        total.iter_mut().zip(shard).for_each(|(t, s)| *t += f64::from(s));
    }
    Ok(total)
}

//! What flows through the model: one tensor for each window, in the f32 model and in the quantized one.

use super::ops;
use candle_core::{Result as Computed, Tensor};
use rayon::prelude::*;

/// Windows whose products are summed one after the other; shards run in parallel. Fixed, so that sums do not depend on
/// the number of threads.
const SHARD: usize = 4;

/// The same activations of both models, for each window tokens x width.
pub(crate) struct Streams {
    /// Of the f32 model.
    pub(crate) full: Vec<Tensor>,
    /// Of the model as it is stored.
    pub(crate) stored: Vec<Tensor>,
}

impl Streams {
    /// A function of each stream; the two may have other weights.
    pub(crate) fn map(
        &self,
        full: impl Fn(&Tensor) -> Computed<Tensor> + Sync,
        stored: impl Fn(&Tensor) -> Computed<Tensor> + Sync,
    ) -> Computed<Streams> {
        let pairs = self.full.par_iter().zip(&self.stored).map(|(f, s)| Ok((full(f)?, stored(s)?)));
        let (full, stored) = pairs.collect::<Computed<Vec<_>>>()?.into_iter().unzip();
        Ok(Streams { full, stored })
    }

    /// The sum of two streams.
    pub(crate) fn add(&self, other: &Streams) -> Computed<Streams> {
        let sum = |a: &[Tensor], b: &[Tensor]| {
            a.par_iter().zip(b).map(|(a, b)| ops::add(a, b)).collect::<Computed<Vec<_>>>()
        };
        Ok(Streams { full: sum(&self.full, &other.full)?, stored: sum(&self.stored, &other.stored)? })
    }

    /// What the stored stream lacks, of each window.
    pub(crate) fn lack(&self) -> Computed<Vec<Tensor>> {
        self.full.par_iter().zip(&self.stored).map(|(f, s)| ops::subtract(f, s)).collect()
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

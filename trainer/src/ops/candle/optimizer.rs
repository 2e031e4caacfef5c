//! AdamW over the flat buffers, and the norm of the gradient.

use super::super::AdamW;
use candle_core::{Result, Tensor};
use std::ops::Range;

/// Elements of the flat buffers that are worked on at once: a bound for the temporary tensors.
const CHUNK: usize = 1 << 26;
/// Elements that are summed in f32; their sums are f64.
const ROW: usize = 4096;

/// Calls `work` with start and length of each chunk.
pub(super) fn in_chunks(range: Range<usize>, mut work: impl FnMut(usize, usize) -> Result<()>) -> Result<()> {
    let end = range.end;
    range.step_by(CHUNK).try_for_each(|start| work(start, CHUNK.min(end - start)))
}

/// Sum of squares, rows on the device, their sums on the host.
pub(super) fn square_sum(values: &Tensor) -> Result<f64> {
    let (len, mut sums) = (values.elem_count(), Vec::new());
    let whole = len / ROW * ROW;
    in_chunks(0..whole, |start, len| {
        sums.push(values.narrow(0, start, len)?.sqr()?.reshape((len / ROW, ROW))?.sum(1)?);
        Ok(())
    })?;
    if whole < len {
        sums.push(values.narrow(0, whole, len - whole)?.sqr()?.reshape((1, len - whole))?.sum(1)?);
    }
    if sums.is_empty() {
        return Ok(0.0);
    }
    Ok(Tensor::cat(&sums, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}

/// The four flat buffers; weights beyond the gradients are frozen.
pub(super) struct FlatBuffers<'a> {
    pub(super) weights: &'a Tensor,
    pub(super) gradients: &'a Tensor,
    pub(super) first: &'a Tensor,
    pub(super) second: &'a Tensor,
}

impl FlatBuffers<'_> {
    /// AdamW (Loshchilov and Hutter 2019, algorithm 2, with the learning rate in the decay, as PyTorch has it).
    pub(super) fn adamw(&self, step: &AdamW, over: Range<usize>) -> Result<()> {
        let decayed = step.decayed.clamp(over.start, over.end);
        let keep = 1.0 - step.learning_rate * step.weight_decay;
        in_chunks(over.start..decayed, |start, len| self.chunk(step, keep, start, len))?;
        in_chunks(decayed..over.end, |start, len| self.chunk(step, 1.0, start, len))
    }

    fn chunk(&self, step: &AdamW, keep: f64, start: usize, len: usize) -> Result<()> {
        let part = |buffer: &Tensor| buffer.narrow(0, start, len);
        let correction1 = 1.0 - step.beta1.powf(step.step as f64);
        let correction2 = 1.0 - step.beta2.powf(step.step as f64);
        let gradient = part(self.gradients)?.affine(f64::from(step.gradient_scale), 0.0)?;
        let first = part(self.first)?;
        let first = (&first + (&gradient - &first)?.affine(1.0 - step.beta1, 0.0)?)?;
        let squares = gradient.sqr()?.affine(1.0 - step.beta2, 0.0)?;
        let second = (part(self.second)?.affine(step.beta2, 0.0)? + squares)?;
        let divisor = second.sqrt()?.affine(1.0 / correction2.sqrt(), step.epsilon)?;
        let change = (&first / divisor)?.affine(step.learning_rate / correction1, 0.0)?;
        let weights = (part(self.weights)?.affine(keep, 0.0)? - change)?;
        self.first.slice_set(&first, 0, start)?;
        self.second.slice_set(&second, 0, start)?;
        self.weights.slice_set(&weights, 0, start)
    }
}

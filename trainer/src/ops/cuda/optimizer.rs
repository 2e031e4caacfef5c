//! The norm of the gradient, and AdamW over the flat buffers.

use super::super::{AdamW, Buffer};
use super::kernels::Given::{Bf16s, Count, F32s, F64s, Float, U32s};
use super::launcher::{BF16, DeviceMemory, F32, Launcher, Region};
use super::memory::CudaOps;
use crate::error::Result;
use std::ops::Range;
use zerocopy::IntoBytes;

/// Partial sums of the squares; their number decides the order of the sum and must not depend on the device.
const PARTS: usize = 1024;
const SUM_SHARED: usize = 128;
/// Those sums, their total, and whether it is finite.
pub(super) const SCRATCH_BYTES: usize = (PARTS + 2) * size_of::<f64>();
/// Elements of a block of the optimizer.
const ELEMENTS: usize = 2048;

impl<L: Launcher> CudaOps<L> {
    /// Sum of squares of all gradients; not a number if one is infinite or not a number.
    pub(super) fn square_sum(&mut self) -> Result<f64> {
        let count = self.lengths.gradients;
        let parts = count.div_ceil(ELEMENTS).clamp(1, PARTS);
        let found = self.scratch(SCRATCH_BYTES)?;
        let (of_parts, of_total) = (PARTS * size_of::<f64>(), size_of::<f64>() + size_of::<u32>());
        let (partial, result) = (found.part(0, of_parts), found.part(of_parts, of_total));
        let gradients = F32s(self.buffer(Buffer::Gradients).region());
        self.launch_blocks("square_sum", parts, SUM_SHARED, &[gradients, F64s(partial), Count(count)])?;
        let (total, flag) = (result.part(0, size_of::<f64>()), result.behind(size_of::<f64>()));
        let given = [F64s(partial), F64s(total), U32s(flag), Count(parts)];
        self.launch_blocks("square_sum_total", 1, SUM_SHARED, &given)?;
        let (mut sum, mut finite) = (0.0f64, 0u32);
        self.launcher.download(total, sum.as_mut_bytes())?;
        self.launcher.download(flag, finite.as_mut_bytes())?;
        Ok(if finite == 1 { sum } else { f64::NAN })
    }

    /// One step, which also rounds the new weights to bf16.
    pub(super) fn step(&self, step: AdamW, over: Range<usize>) -> Result<()> {
        let count = over.len();
        if count == 0 {
            return Ok(());
        }
        let part = |region: Region, element: usize| region.part(over.start * element, count * element);
        let flat = |buffer: Buffer| F32s(part(self.buffer(buffer).region(), F32));
        let correction1 = 1.0 - step.beta1.powf(step.step as f64);
        let correction2 = 1.0 - step.beta2.powf(step.step as f64);
        // 1 - beta in f64: in f32 it would be off by more than its last bit.
        let numbers = [
            1.0 - step.learning_rate * step.weight_decay,
            step.learning_rate / correction1,
            1.0 - step.beta1,
            step.beta2,
            1.0 - step.beta2,
            1.0 / correction2.sqrt(),
            step.epsilon,
        ];
        let mut given = vec![
            flat(Buffer::Weights),
            flat(Buffer::FirstMoment),
            flat(Buffer::SecondMoment),
            flat(Buffer::Gradients),
            Bf16s(part(self.weights.rounded.region(), BF16)),
            Count(count),
            Count(step.decayed.saturating_sub(over.start).min(count)),
        ];
        given.extend(numbers.map(|number| Float(number as f32)));
        given.push(Float(step.gradient_scale));
        self.launch_blocks("adamw", count.div_ceil(ELEMENTS), 0, &given)
    }
}

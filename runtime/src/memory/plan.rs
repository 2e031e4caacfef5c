//! The memory plan: the size of a session's memory.

use super::arena::{Count, MemoryError};
use super::{Buffers, PlanOptions};
use crate::format::Config;
use crate::kernels::Kernels;

/// The memory that a session requires, known before anything runs.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    config: Config,
    options: PlanOptions,
    tile: usize,
    bytes: usize,
}

impl MemoryPlan {
    /// The plan for a model, options and kernels. Independent of the number of threads.
    ///
    /// # Errors
    /// [`MemoryError::Context`], [`MemoryError::Overflow`].
    pub fn new(config: &Config, options: &PlanOptions, kernels: &Kernels) -> Result<MemoryPlan, MemoryError> {
        if !(1..=config.context).contains(&options.context) {
            return Err(MemoryError::Context { found: options.context, limit: config.context });
        }
        let sequences = options.sequences.max(1);
        let positions = options.context.checked_mul(sequences).ok_or(MemoryError::Overflow)?;
        let batch = options.batch.clamp(sequences, positions);
        let logit_rows = options.logit_rows.clamp(sequences, batch);
        let options = PlanOptions { batch, logit_rows, sequences, ..*options };
        let mut plan = MemoryPlan { config: *config, options, tile: kernels.tile, bytes: 0 };
        let mut count = Count::default();
        Buffers::carve(&plan.config, &plan.options, plan.tile, &mut count)?;
        plan.bytes = count.bytes;
        Ok(plan)
    }

    /// Required bytes, aligned to [`ALIGN`](super::ALIGN).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that another sequence would take: nearly all of them its KV cache.
    ///
    /// # Errors
    /// [`MemoryError::Overflow`].
    pub fn sequence_bytes(&self) -> Result<usize, MemoryError> {
        let sequences = self.options.sequences.checked_add(1).ok_or(MemoryError::Overflow)?;
        let options = PlanOptions { sequences, ..self.options };
        let options = PlanOptions { batch: options.batch.max(sequences), ..options };
        let options = PlanOptions { logit_rows: options.logit_rows.max(sequences), ..options };
        let mut count = Count::default();
        Buffers::carve(&self.config, &options, self.tile, &mut count)?;
        Ok(count.bytes - self.bytes)
    }

    /// The options, with batch and logit rows limited by the context, and at least one for each sequence.
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The model's hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens in a full tile of the kernels.
    pub(crate) fn tile(&self) -> usize {
        self.tile
    }
}

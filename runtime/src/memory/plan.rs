//! The bytes that a session takes.

use super::arena::{Count, MemoryError};
use super::{Buffers, PlanOptions};
use crate::format::Config;
use crate::kernels::Kernels;

/// Bytes needed for one session, before anything runs.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    config: Config,
    options: PlanOptions,
    tile: usize,
    bytes: usize,
}

impl MemoryPlan {
    /// The plan for a model, a context and a set of kernels; it does not depend on the number of threads.
    pub fn new(config: &Config, options: &PlanOptions, kernels: &Kernels) -> Result<MemoryPlan, MemoryError> {
        if !(1..=config.context).contains(&options.context) {
            return Err(MemoryError::Context { found: options.context, most: config.context });
        }
        let batch = options.batch.clamp(1, options.context);
        let logit_rows = options.logit_rows.clamp(1, batch);
        let options = PlanOptions { batch, logit_rows, ..*options };
        let mut plan = MemoryPlan { config: *config, options, tile: kernels.tile, bytes: 0 };
        let mut count = Count::default();
        Buffers::carve(&plan.config, &plan.options, plan.tile, &mut count)?;
        plan.bytes = count.bytes;
        Ok(plan)
    }

    /// Bytes to lend, on a boundary of [`ALIGN`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The options, with batch and logit rows cut to what the context allows.
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The model's hyperparameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens in a full tile of the kernels planned for.
    pub(crate) fn tile(&self) -> usize {
        self.tile
    }
}

//! Creates several sequences that run together on the CPU, for servers and evaluations.

use crate::generator::GeneratorError;
use crate::plan::{InferenceMemory, InferencePlan};
use crate::threads::SpinPool;
use thimble_runtime::adapter::AdapterSet;
use thimble_runtime::format::ModelFile;
use thimble_runtime::kernels::ThreadPool;
use thimble_runtime::model::Weights;
use thimble_runtime::sequences::Sequences;

/// [`Sequences`] on a pool of threads, a [`SpinPool`] unless it says otherwise.
pub type Slots<'a, T = SpinPool> = Sequences<'a, 'a, 'a, T, Vec<AdapterSet<'a>>>;

/// Creates as many empty slots on `file` in `memory` as the plan has sequences
/// ([`InferenceSettings::sequences`](crate::InferenceSettings::sequences)), run by `pool`. The CPU computes, whatever the plan's
/// backend; there is no prompt lookup.
///
/// # Errors
/// A damaged file, or the memory of another plan.
pub fn slots<'a, T: ThreadPool>(
    file: &ModelFile<'a>,
    plan: &InferencePlan,
    memory: &'a mut InferenceMemory,
    pool: &'a T,
) -> Result<Slots<'a, T>, GeneratorError> {
    let weights = Weights::new(file)?;
    let adapters = vec![AdapterSet::default(); plan.memory().options().sequences];
    Ok(Sequences::new(weights, plan.memory(), (plan.kernels(), pool), memory.bytes(), adapters)?)
}

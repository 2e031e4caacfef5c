//! A session with its threads: what a command or an app drives.

use crate::plan::{Memory, Plan};
use crate::threads::Pool;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{FormatError, ModelFile};
use thimble_runtime::kernels::Team;
use thimble_runtime::memory::MemoryError;
use thimble_runtime::model::Weights;
use thimble_runtime::session::Session;
use thiserror::Error;

/// Why a generator cannot be made.
#[derive(Debug, Error)]
pub enum GeneratorError {
    /// The file's tensors.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A [`Session`] on a [`Pool`], in [`Memory`].
pub type Generator<'a> = Session<Cpu<'a, 'a, 'a, Pool>>;

/// A session on `file` in `memory`, run by `team`.
pub fn generator<'a, T: Team>(
    file: &ModelFile<'a>,
    plan: &Plan,
    memory: &'a mut Memory,
    team: &'a T,
) -> Result<Session<Cpu<'a, 'a, 'a, T>>, GeneratorError> {
    let weights = Weights::new(file)?;
    let cpu = Cpu::new(weights, plan.memory(), plan.kernels(), team, memory.bytes())?;
    Ok(Session::new(cpu).with_lookup(plan.lookup()))
}

//! A session with its processors and threads: what a command or an app drives.

use crate::backend::BackendKind;
use crate::hybrid::Hybrid;
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
    /// A GPU was asked for and there is none.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] thimble_gpu::GpuError),
}

/// A [`Session`] on a [`Pool`], in [`Memory`], with a GPU where the plan says so.
pub type Generator<'a> = Session<Hybrid<'a, Pool>>;

/// A session on `file` in `memory`, run by `team` and by the GPU where the plan names it.
///
/// A GPU that cannot run this model, or computes something else than the CPU, is given up at once with a line.
///
/// # Errors
/// A damaged file, memory of another plan, or no adapter where the plan names the GPU.
pub fn generator<'a, T: Team>(
    file: &ModelFile<'a>,
    plan: &Plan,
    memory: &'a mut Memory,
    team: &'a T,
) -> Result<Session<Hybrid<'a, T>>, GeneratorError> {
    let mut hybrid = hybrid(file, plan, memory, team)?;
    if plan.backend() == BackendKind::Auto {
        let best = hybrid.measure().map_or(BackendKind::Cpu, |measured| measured.best());
        hybrid.assign(best);
    }
    Ok(Session::new(hybrid).with_lookup(plan.lookup()))
}

/// Whether the processors of a backend are there: what [`generator`] would find out later.
///
/// # Errors
/// No adapter for a backend with a GPU.
#[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "a CPU is always there"))]
pub fn find_processors(backend: BackendKind) -> Result<(), GeneratorError> {
    #[cfg(feature = "gpu")]
    if backend.has_gpu() {
        crate::gpu::device()?;
    }
    Ok(())
}

/// Bytes that a session of this plan takes on a GPU; none where the CPU does it all, because it has to or because the model
/// does not fit.
///
/// # Errors
/// A damaged file, or no adapter where the plan names the GPU.
#[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "there is none"))]
pub fn gpu_bytes(file: &ModelFile<'_>, plan: &Plan) -> Result<u64, GeneratorError> {
    #[cfg(feature = "gpu")]
    if plan.backend().has_gpu() {
        return Ok(crate::gpu::bytes(&crate::gpu::device()?, plan, &Weights::new(file)?));
    }
    Ok(0)
}

/// The processors of a plan, tested against each other; for `Auto` all that there are but GPUs made of software.
#[cfg_attr(not(feature = "gpu"), allow(unused_mut, reason = "there is nothing to add"))]
pub(crate) fn hybrid<'a, T: Team>(
    file: &ModelFile<'a>,
    plan: &Plan,
    memory: &'a mut Memory,
    team: &'a T,
) -> Result<Hybrid<'a, T>, GeneratorError> {
    let weights = Weights::new(file)?;
    let cpu = Cpu::new(weights, plan.memory(), plan.kernels(), team, memory.bytes())?;
    let mut hybrid = Hybrid::new(cpu);
    #[cfg(feature = "gpu")]
    if plan.backend() != BackendKind::Cpu {
        hybrid = with_gpu(hybrid, &weights, plan)?;
    }
    Ok(hybrid)
}

#[cfg(feature = "gpu")]
fn with_gpu<'a, T: Team>(
    hybrid: Hybrid<'a, T>,
    weights: &Weights<'_>,
    plan: &Plan,
) -> Result<Hybrid<'a, T>, GeneratorError> {
    use thimble_gpu::GpuError;
    let auto = plan.backend() == BackendKind::Auto;
    let device = match crate::gpu::device() {
        Ok(device) if auto && device.report().software => return Ok(hybrid),
        Ok(device) => device,
        Err(_) if auto => return Ok(hybrid),
        // One that was there when somebody asked (`find_processors`) and is gone now.
        Err(error) => {
            (plan.tell())(&crate::hybrid::given_up(&error.to_string()));
            return Ok(hybrid);
        }
    };
    match crate::gpu::partner(&device, plan, weights) {
        Ok(partner) => {
            let mut hybrid = hybrid.with_partner(partner, plan.backend(), plan.tell());
            hybrid.self_test(weights);
            Ok(hybrid)
        }
        Err(GpuError::Option { .. } | GpuError::TooLarge { .. }) if auto => Ok(hybrid),
        Err(error) => {
            (plan.tell())(&crate::hybrid::given_up(&error.to_string()));
            Ok(hybrid)
        }
    }
}

//! A session with its processors and threads: what a command or an app drives.

use crate::backend::BackendKind;
use crate::hybrid::Hybrid;
use crate::plan::{InferenceMemory, InferencePlan};
use crate::threads::SpinPool;
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{FormatError, ModelFile};
use thimble_runtime::kernels::ThreadPool;
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
    InferenceMemory(#[from] MemoryError),
    /// A GPU was asked for and there is none.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] thimble_gpu::GpuError),
}

/// A [`Session`] on a [`SpinPool`], in [`InferenceMemory`], with a GPU where the plan says so.
pub type Generator<'a> = Session<Hybrid<'a, SpinPool>>;

/// A session on `file` in `memory`, run by `pool` and by the GPU where the plan names it.
///
/// A GPU that cannot run this model, or computes something else than the CPU, is given up at once with a line.
///
/// # Errors
/// A damaged file, memory of another plan, or no adapter where the plan names the GPU.
pub fn generator<'a, T: ThreadPool>(
    file: &ModelFile<'a>,
    plan: &InferencePlan,
    memory: &'a mut InferenceMemory,
    pool: &'a T,
) -> Result<Session<Hybrid<'a, T>>, GeneratorError> {
    let mut hybrid = hybrid(file, plan, memory, pool)?;
    if plan.backend() == BackendKind::Auto {
        let best = hybrid.measure(None).map_or(BackendKind::Cpu, |measured| measured.best());
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
pub fn gpu_bytes(file: &ModelFile<'_>, plan: &InferencePlan) -> Result<u64, GeneratorError> {
    #[cfg(feature = "gpu")]
    if plan.backend().has_gpu() {
        return Ok(crate::gpu::bytes(&crate::gpu::device()?, plan, &Weights::new(file)?));
    }
    Ok(0)
}

/// The processors of a plan, tested against each other; for `Auto` all that there are, a software renderer where it is named.
pub(crate) fn hybrid<'a, T: ThreadPool>(
    file: &ModelFile<'a>,
    plan: &InferencePlan,
    memory: &'a mut InferenceMemory,
    pool: &'a T,
) -> Result<Hybrid<'a, T>, GeneratorError> {
    let weights = Weights::new(file)?;
    let hybrid = Hybrid::new(Cpu::new(weights, plan.memory(), plan.kernels(), pool, memory.bytes())?);
    #[cfg(feature = "gpu")]
    if plan.backend() != BackendKind::Cpu {
        return Ok(with_gpu(hybrid, &weights, plan));
    }
    Ok(hybrid)
}

#[cfg(feature = "gpu")]
fn with_gpu<'a, T: ThreadPool>(
    hybrid: Hybrid<'a, T>,
    weights: &Weights<'_>,
    plan: &InferencePlan,
) -> Hybrid<'a, T> {
    let auto = plan.backend() == BackendKind::Auto;
    match crate::gpu::device() {
        Ok(device) if auto && crate::gpu::is_out(&device) => hybrid,
        Ok(device) => on_gpu(hybrid, weights, plan, &crate::gpu::variants(&device, plan)),
        Err(_) if auto => hybrid,
        // One that was there when somebody asked (`find_processors`) and is gone now.
        Err(error) => {
            (plan.tell())(&crate::hybrid::fallback(&error.to_string()));
            hybrid
        }
    }
}

/// With the GPU as an accelerator, in the first of these kernel variants that passes the self-test; the CPU alone where none does.
#[cfg(feature = "gpu")]
pub(crate) fn on_gpu<'a, T: ThreadPool>(
    hybrid: Hybrid<'a, T>,
    weights: &Weights<'_>,
    plan: &InferencePlan,
    variants: &[thimble_gpu::Device],
) -> Hybrid<'a, T> {
    use thimble_gpu::GpuError::{Option as Wrong, TooLarge};
    let auto = plan.backend() == BackendKind::Auto;
    let accelerators =
        variants.iter().map_while(|variant| match crate::gpu::accelerator(variant, plan, weights) {
            Err(Wrong { .. } | TooLarge { .. }) if auto => None,
            made => Some(made.map_err(|error| error.to_string())),
        });
    hybrid.with_first_verified(weights, accelerators, plan.backend(), plan.tell())
}

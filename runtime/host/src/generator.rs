//! Creates a session with its processors and threads, for commands and apps.

use crate::backend::BackendKind;
use crate::hybrid::Hybrid;
use crate::plan::{InferenceMemory, InferencePlan};
use crate::threads::SpinPool;
use thimble_runtime::adapter::{AdapterError, AdapterSet, WeightedAdapter};
use thimble_runtime::cpu::Cpu;
use thimble_runtime::format::{FormatError, ModelFile};
use thimble_runtime::kernels::ThreadPool;
use thimble_runtime::memory::MemoryError;
use thimble_runtime::model::Weights;
use thimble_runtime::session::Session;
use thiserror::Error;

/// Why a generator cannot be created.
#[derive(Debug, Error)]
pub enum GeneratorError {
    /// The tensors of the file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Memory that does not fit the plan.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A GPU was requested and there is none.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] thimble_gpu::GpuError),
}

/// A [`Session`] on a [`SpinPool`], with a GPU if the plan says so.
pub type Generator<'a> = Session<Hybrid<'a, SpinPool>>;

/// Creates a session on `file` in `memory`, run by `pool` and, if the plan says so, by the GPU.
///
/// If the GPU cannot run this model or fails the startup check, the session warns and continues on the CPU.
///
/// # Errors
/// A damaged file, the memory of another plan, or no adapter for a plan with a GPU.
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

/// Runs a session with these adapters from now on: of the rank that its plan allows, beside whatever weights it has. If that
/// changes anything, the session is empty afterwards. The fingerprint of the base model is not compared:
/// [`AdapterFile::check_base`](thimble_runtime::adapter::AdapterFile::check_base) does.
///
/// # Errors
/// [`AdapterError`]; the session is then as before.
pub fn set_adapters<'a, T: ThreadPool>(
    session: &mut Session<Hybrid<'a, T>>,
    adapters: &[WeightedAdapter<'a>],
) -> Result<(), AdapterError> {
    let cpu = session.sequence().cpu();
    let plan = cpu.plan();
    let set = AdapterSet::new(adapters, plan.config(), plan.options().adapter_rank)?;
    if set.id() == cpu.adapters().id() {
        return Ok(());
    }
    session.reconfigure(|hybrid| hybrid.set_adapters(adapters))
}

/// Checks that the processors of a backend exist, before [`generator`] needs them.
///
/// # Errors
/// No adapter for a backend with a GPU.
#[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "a CPU always exists"))]
pub fn check_processors(backend: BackendKind) -> Result<(), GeneratorError> {
    #[cfg(feature = "gpu")]
    if backend.has_gpu() {
        crate::gpu::device()?;
    }
    Ok(())
}

/// Bytes that a session of this plan takes on a GPU, without the weights of adapters, which take as much as in their files; 0 if the CPU runs everything, by plan or because the model does not fit.
///
/// # Errors
/// A damaged file, or no adapter for a plan with a GPU.
#[cfg_attr(not(feature = "gpu"), allow(unused_variables, reason = "there is no GPU"))]
pub fn gpu_bytes(file: &ModelFile<'_>, plan: &InferencePlan) -> Result<u64, GeneratorError> {
    #[cfg(feature = "gpu")]
    if plan.backend().has_gpu() {
        return Ok(crate::gpu::bytes(&crate::gpu::device()?, plan, &Weights::new(file)?));
    }
    Ok(0)
}

/// The processors of a plan, checked against each other: all available ones for `Auto`, a software renderer only if it is
/// named.
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
        Ok(device) if auto && crate::gpu::is_excluded(&device) => hybrid,
        Ok(device) => add_gpu(hybrid, weights, plan, &crate::gpu::variants(&device, plan)),
        Err(_) if auto => hybrid,
        // It existed when `check_processors` asked, and is gone.
        Err(error) => {
            (plan.notify())(&crate::hybrid::fallback(&error.to_string()));
            hybrid
        }
    }
}

/// Adds the GPU as an accelerator, with the first kernel variant that passes the startup check; the CPU alone if none does.
#[cfg(feature = "gpu")]
pub(crate) fn add_gpu<'a, T: ThreadPool>(
    hybrid: Hybrid<'a, T>,
    weights: &Weights<'_>,
    plan: &InferencePlan,
    variants: &[thimble_gpu::Device],
) -> Hybrid<'a, T> {
    use thimble_gpu::GpuError::{Option as Unsupported, TooLarge};
    let auto = plan.backend() == BackendKind::Auto;
    let accelerators =
        variants.iter().map_while(|variant| match crate::gpu::accelerator(variant, plan, weights) {
            Err(Unsupported { .. } | TooLarge { .. }) if auto => None,
            created => Some(created.map_err(|error| error.to_string())),
        });
    hybrid.with_first_verified(weights, accelerators, plan.backend(), plan.notify())
}

//! The GPU as an accelerator: opened only where it is asked for, once for a process.

use crate::accelerator::{Accelerator, CachePart, GpuWork};
use crate::plan::InferencePlan;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use thimble_gpu::{Device, Gpu, GpuError, GpuOptions, GpuPlan, MatmulVariant};
use thimble_runtime::Token;
use thimble_runtime::kernels::KvHead;
use thimble_runtime::memory::PlanOptions;
use thimble_runtime::model::{Batch, Weights};
use thimble_runtime::sampler::Sampler;

/// The device that sessions share, from the first that asks for one to the end of the process or of the device.
static OPEN: Mutex<Option<Device>> = Mutex::new(None);
/// Where devices keep their compiled shaders.
static PIPELINES: OnceLock<PathBuf> = OnceLock::new();

/// Lets devices keep their compiled shaders in this folder, where the driver leaves that to programs: the next start is
/// quicker. Called once, in front of the first session.
///
/// # Safety
/// The folder is as trustworthy as the program itself: drivers believe what they find there.
pub unsafe fn keep_pipelines_in(folder: &Path) {
    // A second call is too late for the device that is open.
    let _ = PIPELINES.set(folder.to_owned());
}

/// The adapter that `THIMBLE_ADAPTER` names a part of the name of, or the fastest.
///
/// # Errors
/// There is none, or it gives no device.
pub fn device() -> Result<Device, GpuError> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.as_ref().filter(|device| device.check().is_ok()) {
        return Ok(device.clone());
    }
    let device = Device::open(named().as_deref())?;
    let device = match PIPELINES.get() {
        // SAFETY: the promise made to `keep_pipelines_in`.
        Some(folder) => unsafe { device.with_pipelines_in(folder) },
        None => device,
    };
    Ok(open.insert(device).clone())
}

fn named() -> Option<String> {
    std::env::var("THIMBLE_ADAPTER").ok().filter(|name| !name.is_empty())
}

/// Whether `auto` leaves it alone: a software renderer, unless it was asked for by name.
pub(crate) fn is_out(device: &Device) -> bool {
    device.report().software && named().is_none()
}

/// The kernel variants that may be the fastest, as exact as the plan asks for.
pub(crate) fn variants_to_time(device: &Device, plan: &InferencePlan) -> Vec<Device> {
    let exact = plan.memory().options().exact;
    let mut variants = device.matmul_variants().to_vec();
    // Exact: no activation in bytes or halves.
    variants.retain(|tile| if exact { *tile == MatmulVariant::Plain } else { tile.is_exact() });
    variants.into_iter().filter_map(|tile| device.clone().with_matmul_variant(tile).ok()).collect()
}

/// Variants to compute to try in turn: the one that was measured to be the fastest, or is thought to be, then the one that takes
/// the least of a driver.
pub(crate) fn variants(device: &Device, plan: &InferencePlan) -> Vec<Device> {
    let timed = variants_to_time(device, plan);
    let measured = timed.iter().find(|variant| Some(variant.matmul_variants()[0]) == plan.products());
    let mut variants: Vec<Device> = measured.or(timed.first()).cloned().into_iter().collect();
    variants.extend(device.clone().plainest());
    variants
}

/// The model on the GPU, with the plan's context, batch and cache.
///
/// # Errors
/// The model or the plan does not fit the device, or the device fails.
pub(crate) fn accelerator(
    device: &Device,
    plan: &InferencePlan,
    weights: &Weights<'_>,
) -> Result<Box<dyn Accelerator>, GpuError> {
    Ok(Box::new(Gpu::new(device, weights, &options(plan))?))
}

/// Bytes that [`accelerator`] takes on the device; none where it does not fit.
pub(crate) fn bytes(device: &Device, plan: &InferencePlan, weights: &Weights<'_>) -> u64 {
    GpuPlan::new(weights, &options(plan), device).map_or(0, |plan| plan.bytes())
}

fn options(plan: &InferencePlan) -> GpuOptions {
    let PlanOptions { context, batch, logit_rows, kv, exact: _ } = *plan.memory().options();
    GpuOptions { context, batch, logit_rows, kv, ..GpuOptions::generate(context) }
}

impl Accelerator for Gpu {
    fn failure(&self) -> Option<String> {
        self.check().err().map(|error| error.to_string())
    }

    fn read_cache(&mut self, blocks: Range<usize>, each: &mut CachePart<'_>) -> bool {
        // A failure is kept by the device.
        Gpu::read_cache(self, blocks, each).unwrap_or(false)
    }

    fn write_cache(&mut self, blocks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
        Gpu::write_cache(self, blocks, layer, head, part)
    }

    fn work(&self, position: usize) -> Option<GpuWork> {
        Some(GpuWork { dispatches: self.dispatches(), read_bytes: self.read_bytes(position) })
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, history: &[Token]) -> Result<Option<Token>, String> {
        Gpu::draw(self, sampler, history).map_err(|error| error.to_string())
    }

    fn continue_with(&mut self, batch: &Batch<'_>) -> bool {
        Gpu::follow(self, batch)
    }
}

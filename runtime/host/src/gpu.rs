//! The GPU as an accelerator: opened on first use, once per process.

use crate::accelerator::{Accelerator, CachePart, GpuWork, LayerChunks};
use crate::plan::InferencePlan;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use thimble_gpu::{Device, Gpu, GpuError, GpuMemoryPlan, GpuOptions, MatmulVariant};
use thimble_runtime::Token;
use thimble_runtime::adapter::WeightedAdapter;
use thimble_runtime::kernels::KvHead;
use thimble_runtime::memory::PlanOptions;
use thimble_runtime::model::{Batch, Weights};
use thimble_runtime::sampler::Sampler;

/// The device that all sessions share, until it is lost or the process ends.
static DEVICE: Mutex<Option<Device>> = Mutex::new(None);
/// The folder for compiled shaders.
static PIPELINE_CACHE: OnceLock<PathBuf> = OnceLock::new();

/// Caches compiled shaders in `folder`, for drivers without a cache of their own: the next start is faster. Called once, before
/// the first session.
///
/// # Safety
/// The folder is as trustworthy as the program itself: drivers do not validate what they find there.
pub unsafe fn cache_pipelines_in(folder: &Path) {
    // Only the first call counts: a device may be open.
    let _ = PIPELINE_CACHE.set(folder.to_owned());
}

/// The shared device, on the adapter whose name contains `THIMBLE_ADAPTER`, or else on the fastest.
///
/// # Errors
/// There is no such adapter, or it cannot be opened.
pub fn device() -> Result<Device, GpuError> {
    let mut open = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.as_ref().filter(|device| device.check().is_ok()) {
        return Ok(device.clone());
    }
    let device = Device::open(adapter_name().as_deref())?;
    let device = match PIPELINE_CACHE.get() {
        // SAFETY: the promise made to `cache_pipelines_in`.
        Some(folder) => unsafe { device.with_pipeline_cache(folder) },
        None => device,
    };
    Ok(open.insert(device).clone())
}

fn adapter_name() -> Option<String> {
    std::env::var("THIMBLE_ADAPTER").ok().filter(|name| !name.is_empty())
}

/// Whether `auto` ignores the device: a software renderer, unless it was requested by name.
pub(crate) fn is_excluded(device: &Device) -> bool {
    device.report().software && adapter_name().is_none()
}

/// The kernel variants that may be the fastest at the plan's precision.
pub(crate) fn variants_to_time(device: &Device, plan: &InferencePlan) -> Vec<Device> {
    let exact = plan.memory().options().exact;
    let mut variants = device.matmul_variants().to_vec();
    // The exact mode keeps activations in f32.
    variants.retain(|variant| if exact { *variant == MatmulVariant::Plain } else { variant.is_accurate() });
    variants.into_iter().filter_map(|variant| device.clone().with_matmul_variant(variant).ok()).collect()
}

/// Kernel variants to try in turn: the one requested or expected to be the fastest, then the one that demands the least of a
/// driver.
pub(crate) fn variants(device: &Device, plan: &InferencePlan) -> Vec<Device> {
    let timed = variants_to_time(device, plan);
    let requested = timed.iter().find(|variant| Some(variant.matmul_variants()[0]) == plan.matmul_variant());
    let mut variants: Vec<Device> = requested.or(timed.first()).cloned().into_iter().collect();
    variants.extend(device.clone().with_baseline_kernels());
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

/// Bytes that [`accelerator`] takes on the device; 0 if it does not fit.
pub(crate) fn bytes(device: &Device, plan: &InferencePlan, weights: &Weights<'_>) -> u64 {
    GpuMemoryPlan::new(weights, &options(plan), device).map_or(0, |plan| plan.bytes())
}

fn options(plan: &InferencePlan) -> GpuOptions {
    let PlanOptions { context, batch, logit_rows, kv, exact: _, adapter_rank, sequences: _ } =
        *plan.memory().options();
    GpuOptions { context, batch, logit_rows, kv, adapter_rank, ..GpuOptions::generate(context) }
}

impl Accelerator for Gpu {
    fn failure(&self) -> Option<String> {
        self.check().err().map(|error| error.to_string())
    }

    fn read_residual(&mut self, rows: Range<usize>, out: &mut [f32]) {
        Gpu::read_residual(self, rows, out);
    }

    fn resumes_at(&self, position: usize) -> bool {
        Gpu::resumes_at(self, position)
    }

    fn read_cache(&mut self, chunks: &LayerChunks<'_>, each: &mut CachePart<'_>) -> bool {
        // The device keeps a failure, and `failure` reports it.
        Gpu::read_cache(self, chunks, each).unwrap_or(false)
    }

    fn reserve(&mut self, positions: Range<usize>) {
        Gpu::reserve(self, positions);
    }

    fn write_cache(&mut self, chunks: Range<usize>, layer: usize, head: usize, part: KvHead<'_>) -> bool {
        Gpu::write_cache(self, chunks, layer, head, part)
    }

    fn set_adapters(&mut self, adapters: &[WeightedAdapter<'_>]) -> Result<(), String> {
        Gpu::set_adapters(self, adapters).map_err(|error| error.to_string())
    }

    fn work(&self, position: usize) -> Option<GpuWork> {
        Some(GpuWork { dispatches: self.dispatches(), read_bytes: self.read_bytes(position) })
    }

    fn sample(&mut self, sampler: &mut Sampler<'_>, history: &[Token]) -> Result<Option<Token>, String> {
        Gpu::sample(self, sampler, history).map_err(|error| error.to_string())
    }

    fn continue_with(&mut self, batch: &Batch<'_>) -> bool {
        Gpu::continues_with(self, batch)
    }
}

//! The GPU as a partner: opened only where it is asked for, once for a process.

use crate::hybrid::{CachePart, Partner};
use crate::plan::Plan;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use thimble_gpu::{Device, Gpu, GpuError, GpuOptions, Tile};
use thimble_runtime::kernels::KvHead;
use thimble_runtime::model::Weights;

/// The device that sessions share, from the first that asks for one to the end of the process or of the device.
static OPEN: Mutex<Option<Device>> = Mutex::new(None);

/// The adapter that `THIMBLE_ADAPTER` names a part of the name of, or the fastest.
///
/// # Errors
/// There is none, or it gives no device.
pub fn device() -> Result<Device, GpuError> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.as_ref().filter(|device| device.check().is_ok()) {
        return Ok(device.clone());
    }
    let named = std::env::var("THIMBLE_ADAPTER").ok().filter(|name| !name.is_empty());
    Ok(open.insert(Device::open(named.as_deref())?).clone())
}

/// The model on the GPU, with the plan's context, batch and cache.
///
/// # Errors
/// The model or the plan does not fit the device, or the device fails.
pub(crate) fn partner(
    device: &Device,
    plan: &Plan,
    weights: &Weights<'_>,
) -> Result<Box<dyn Partner>, GpuError> {
    let options = plan.memory().options();
    // Exact: no activation in bytes or halves.
    let device = &if options.exact { device.clone().with_tile(Tile::Plain)? } else { device.clone() };
    let options = GpuOptions {
        context: options.context,
        batch: options.batch,
        logit_rows: options.logit_rows,
        kv: options.kv,
        ..GpuOptions::generate(options.context)
    };
    Ok(Box::new(Gpu::new(device, weights, &options)?))
}

impl Partner for Gpu {
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
}

//! The GPU backend: records the runtime's forward pass with wgpu (Vulkan, Metal, DX12, GL).
//!
//! Weights are uploaded in the layout of the file. The README lists design decisions and limitations.

mod adapters;
mod async_decode;
mod backend;
mod builder;
mod cache_transfer;
mod decode_queue;
mod device;
mod dispatch;
mod error;
mod kernels;
mod layer_cache;
mod low_rank;
mod matmul_variant;
mod pipeline_cache;
mod plan;
mod residual;
mod sampler_state;
mod sampling;
mod shaders;
mod weights;

pub use backend::Gpu;
pub use device::{AdapterReport, Device, adapters};
pub use error::GpuError;
pub use matmul_variant::MatmulVariant;
pub use plan::{GpuMemoryPlan, GpuOptions};

#[cfg(test)]
mod tests;

//! The GPU backend: the runtime's one forward pass, recorded for wgpu (Vulkan, Metal, DX12, GL).
//!
//! Weights go to the device in the file's own layout. See the README for what is decided and what is missing.

mod ahead;
mod backend;
mod device;
mod error;
mod handover;
mod kernels;
mod make;
mod pipelines;
mod plan;
mod sampling;
mod steps;
mod weights;

pub use backend::Gpu;
pub use device::{AdapterReport, Device, adapters};
pub use error::GpuError;
pub use kernels::{MatmulVariant, SHADERS};
pub use plan::{GpuOptions, GpuPlan};

#[cfg(test)]
mod tests;

//! What can go wrong on the way to a GPU and on it.

use thimble_runtime::sampler::SamplingError;
use thiserror::Error;

/// Why the GPU cannot be used, or can no longer.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GpuError {
    /// No adapter, or none of the name asked for.
    #[error("no GPU adapter was found ({reason}); use the CPU, or install a Vulkan, Metal or DX12 driver")]
    NoAdapter {
        /// What wgpu says.
        reason: String,
    },
    /// The adapter gives no device.
    #[error("the adapter {adapter} gives no device: {reason}; use the CPU")]
    NoDevice {
        /// Its name.
        adapter: String,
        /// What wgpu says.
        reason: String,
    },
    /// The options do not fit the model or the device.
    #[error("{what} must be {expected}, found {found}")]
    Option {
        /// The option.
        what: &'static str,
        /// Its range.
        expected: String,
        /// What was asked for.
        found: u64,
    },
    /// A buffer that the device cannot hold in one piece.
    #[error(
        "{what} takes {needed} bytes and the adapter allows {most} in one buffer; use a shorter context or the CPU"
    )]
    TooLarge {
        /// What the buffer is for.
        what: &'static str,
        /// Its bytes.
        needed: u64,
        /// The adapter's limit.
        most: u64,
    },
    /// A setting of sampling out of its range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The device refused something, or was lost.
    #[error("the GPU failed: {reason}")]
    Device {
        /// What wgpu says.
        reason: String,
    },
}

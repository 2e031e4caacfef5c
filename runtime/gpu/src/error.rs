//! Errors of the GPU backend.

use thimble_runtime::adapter::AdapterError;
use thimble_runtime::sampler::SamplingError;
use thiserror::Error;

/// Why a GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GpuError {
    /// No adapter was found, or none with the requested name.
    #[error("no GPU adapter was found ({reason}); use the CPU, or install a Vulkan, Metal or DX12 driver")]
    NoAdapter {
        /// The error from wgpu.
        reason: String,
    },
    /// The adapter does not open a device.
    #[error("cannot open the GPU {adapter} ({reason}); use the CPU")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// The error from wgpu.
        reason: String,
    },
    /// An option is out of range for the model or the device.
    #[error("{what} must be {expected}, found {found}")]
    Option {
        /// The option.
        what: &'static str,
        /// Its range.
        expected: String,
        /// Its value.
        found: u64,
    },
    /// A buffer exceeds the device's limit.
    #[error(
        "{what} takes {needed} bytes and the adapter allows {limit} in one buffer; use a shorter context or the CPU"
    )]
    TooLarge {
        /// The contents of the buffer.
        what: &'static str,
        /// Its size, bytes.
        needed: u64,
        /// The largest size allowed, bytes.
        limit: u64,
    },
    /// A sampling setting is out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Adapters that the model cannot have.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The device reported an error or was lost.
    #[error("the GPU failed ({reason})")]
    Device {
        /// The error from wgpu.
        reason: String,
    },
}

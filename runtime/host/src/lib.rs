//! Where the runtime meets an operating system: mapping the file, finding out what the CPU can do, lending
//! memory, running threads.

mod backend;
pub mod chat;
mod choice;
pub mod contain;
mod detect;
mod generator;
#[cfg(feature = "gpu")]
mod gpu;
mod hybrid;
mod kv_file;
mod mapped;
mod measure;
pub mod output;
mod plan;
mod recommended;
mod self_test;
pub mod template;
pub mod text;
mod threads;

pub use backend::{BackendError, BackendKind};
pub use choice::{BackendChoice, BackendChooser, ChosenBackend, MatmulVariant, choices};
pub use detect::{KernelKind, KernelsError};
pub use generator::{Generator, GeneratorError, find_processors, generator, gpu_bytes};
#[cfg(feature = "gpu")]
pub use gpu::{device, keep_pipelines_in};
pub use hybrid::{Accelerator, CachePart, GpuWork, Hybrid};
pub use kv_file::{KvFile, KvFileError};
pub use mapped::{MappedModel, OpenError};
pub use measure::{BackendTimings, SecondsPerToken};
pub use plan::{InferenceMemory, InferencePlan, InferenceSettings, PlanError};
pub use recommended::Recommended;
#[cfg(feature = "gpu")]
pub use thimble_gpu::{AdapterReport, adapters};
pub use threads::SpinPool;

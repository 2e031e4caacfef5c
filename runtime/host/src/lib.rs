//! Processors: what the CPU can do, threads and memory for it, a GPU beside it, and which of them runs a model.

mod accelerator;
mod backend;
mod choice;
mod detect;
mod generator;
#[cfg(feature = "gpu")]
mod gpu;
mod hybrid;
mod kv_file;
mod loaded;
mod measure;
mod plan;
mod self_test;
mod threads;

pub use accelerator::{Accelerator, CachePart, GpuWork};
pub use backend::{BackendError, BackendKind, MatmulVariant};
pub use choice::{BackendChoice, BackendChooser, ChosenBackend, choices};
pub use detect::{KernelKind, KernelsError};
pub use generator::{Generator, GeneratorError, find_processors, generator, gpu_bytes};
#[cfg(feature = "gpu")]
pub use gpu::{device, keep_pipelines_in};
pub use hybrid::Hybrid;
pub use kv_file::{KvFile, KvFileError};
pub use loaded::{LoadedModel, PromptFormat};
pub use measure::{BackendTimings, SecondsPerToken};
pub use plan::{InferenceMemory, InferencePlan, InferenceSettings, PlanError};
#[cfg(feature = "gpu")]
pub use thimble_gpu::{AdapterReport, adapters};
pub use threads::SpinPool;

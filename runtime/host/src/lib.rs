//! Runs a model on this machine's processors: CPU detection, a thread pool, memory, a GPU beside the CPU, the choice of the
//! backend, and files of the KV cache.

mod accelerator;
mod backend;
mod choice;
mod detect;
mod embed;
mod generator;
#[cfg(feature = "gpu")]
mod gpu;
mod hybrid;
mod kv_file;
mod loaded;
mod log_probabilities;
mod measure;
mod plan;
mod self_test;
mod slots;
mod threads;

pub use accelerator::{Accelerator, CachePart, GpuWork, LayerChunks};
pub use backend::{BackendError, BackendKind, MatmulVariant};
pub use choice::{BackendChoice, BackendChooser, ResolvedBackend, saved_choices};
pub use detect::{KernelKind, KernelsError};
pub use embed::embed;
pub use generator::{Generator, GeneratorError, check_processors, generator, gpu_bytes, set_adapters};
#[cfg(feature = "gpu")]
pub use gpu::{cache_pipelines_in, device};
pub use hybrid::Hybrid;
pub use kv_file::{KvFile, KvFileError};
pub use loaded::{LoadedModel, PromptFormat, encode_prompt_text};
pub use log_probabilities::LogProbabilities;
pub use measure::{BackendTimings, SecondsPerToken};
pub use plan::{InferenceMemory, InferencePlan, InferenceSettings, PlanError};
pub use slots::{Slots, slots};
#[cfg(feature = "gpu")]
pub use thimble_gpu::{AdapterReport, adapters};
pub use threads::SpinPool;

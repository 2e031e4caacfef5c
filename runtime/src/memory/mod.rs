//! The caller's memory: its size, known before anything runs, and the buffers that are carved from it.

mod arena;
mod buffers;
mod kv_cache;
mod options;
mod part;
mod plan;

pub use arena::{ALIGN, MemoryError};
pub use options::PlanOptions;
pub use plan::MemoryPlan;

pub(crate) use arena::Arena;
pub(crate) use buffers::Buffers;
pub(crate) use kv_cache::{KvCache, KvRegion, KvShared};
pub(crate) use part::BatchPart;

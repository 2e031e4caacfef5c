//! The model: its parameters, and the engine that runs it forward and backward.

mod activations;
mod distillation;
pub mod engine;
mod engine_options;
mod freeze;
mod heads;
pub mod init;
pub mod parameters;
mod projection;
mod stacks;

pub use activations::{DeviceSizes, Passes, arena_elements};
pub use engine::Engine;
pub use engine_options::EngineOptions;
pub use parameters::Parameters;

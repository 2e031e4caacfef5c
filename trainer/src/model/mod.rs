//! The model: its parameters, and the engine that runs it forward and backward.

mod activations;
pub mod engine;
pub mod init;
pub mod parameters;

pub use activations::{EngineOptions, Passes};
pub use engine::Engine;
pub use parameters::Parameters;

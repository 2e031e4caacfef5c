//! The model: its parameters, and the engine that runs it forward and backward.

pub mod engine;
pub mod init;
pub mod parameters;

pub use engine::{Engine, EngineOptions};
pub use parameters::Parameters;

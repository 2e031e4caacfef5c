//! The operations by the project's own kernels, and the engine on them, on the emulator.
#![allow(clippy::unwrap_used)]

mod command;
mod engine;
mod memory;
mod operations;
mod pytorch;
mod setup;
mod training;

//! The model: its weights and the forward pass.

mod forward;
#[cfg(test)]
mod tests;
mod weights;

pub use forward::{Backend, Batch, forward, layers};
pub use weights::{Layer, Weights};

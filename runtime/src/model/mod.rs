//! The model: its weights and the forward pass.

mod forward;
#[cfg(test)]
pub(crate) mod tests;
mod weights;

pub use forward::{Backend, Batch, forward, layers};
pub use weights::{Layer, Weights};

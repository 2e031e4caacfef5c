//! The model: its weights by name, and the one forward pass.

mod forward;
mod weights;

pub use forward::{Backend, Batch, forward};
pub use weights::{Layer, Weights};

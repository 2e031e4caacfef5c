//! What people look at: progress, metrics, TensorBoard events, plots, and a run folder's README.

pub mod metrics;
pub mod plot;
pub mod progress;
pub mod readme;
pub mod tensorboard;

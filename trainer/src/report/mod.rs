//! What people look at: progress, metrics, TensorBoard events, plots, and a run folder's README.

mod json_lines;
pub mod metrics;
pub mod plot;
pub mod progress;
pub mod readme;
pub mod recovery;
pub mod tensorboard;

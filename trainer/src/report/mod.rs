//! What people look at: progress, metrics, TensorBoard events, plots, a run folder's README, and the report.

mod json_lines;
pub mod metrics;
pub mod page;
pub mod plot;
pub mod progress;
pub mod readme;
pub mod recovery;
pub mod task;
pub mod tensorboard;

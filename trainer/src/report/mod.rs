//! What people look at: progress, metrics, TensorBoard events, plots.

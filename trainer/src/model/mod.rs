//! The model: shape, parameters, and the engine that runs it forward and backward.

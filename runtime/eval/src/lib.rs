//! Measures models: the benchmarks of lm-evaluation-harness, item for item, and the divergence of one model from
//! another.
#![forbid(unsafe_code)]

pub mod divergence;

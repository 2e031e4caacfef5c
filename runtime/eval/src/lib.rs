//! Measures models: the benchmarks of lm-evaluation-harness, item for item, and the divergence of one model from
//! another.
//!
//! The benchmarks come with the feature `benchmarks`, which needs a Parquet reader and the hub's client. A divergence,
//! and what a request is in tokens, do not.
#![forbid(unsafe_code)]

#[cfg(feature = "benchmarks")]
mod benchmarks;
pub mod divergence;
pub mod request;

#[cfg(feature = "benchmarks")]
pub use benchmarks::*;

//! Evaluates models: the benchmarks of lm-evaluation-harness, item for item, and the divergence between two models.
//!
//! The feature `benchmarks` adds the benchmarks, and with them a Parquet reader and the hub client.
#![forbid(unsafe_code)]

#[cfg(feature = "benchmarks")]
mod benchmarks;
pub mod divergence;
pub mod request;

#[cfg(feature = "benchmarks")]
pub use benchmarks::*;

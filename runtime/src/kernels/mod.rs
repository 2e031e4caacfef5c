//! The kernels, written once for sixteen lanes and compiled for each instruction set.
//!
//! The only unsafe code of the runtime: calls of intrinsics, proven by a zero-size value of the instruction set, and
//! `shared::Disjoint`, proven by the contract of [`ThreadPool`].
#![allow(unsafe_code)]
// Kernels index several small arrays by the same lane or token; an iterator over one of them hides that.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block_product;
mod blocks;
mod counting_pool;
mod float_matmul;
mod matmul;
mod matmul_job;
#[cfg(target_arch = "aarch64")]
mod neon;
mod parallel;
mod parallel_attention;
mod quant_block;
mod rows;
mod scalar;
mod shared;
mod simd;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
mod table;
#[cfg(test)]
pub(crate) mod tests;

#[cfg(target_arch = "x86_64")]
pub use amx::Amx;

pub(crate) use attention::SPAN;
pub use attention::{AttendJob, CHUNK, KvHead, KvHeadMut, KvKind, Rope, StoreJob};
#[cfg(target_arch = "x86_64")]
pub use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512Vnni;
pub use blocks::{Matrix, QuantGroup};
pub use counting_pool::CountingPool;
pub use matmul_job::{Input, MatmulJob, Output, tiled_groups};
#[cfg(target_arch = "aarch64")]
pub use neon::{DotProd, I8mm};
pub(crate) use parallel::{Adjust, ParallelKernels, Product};
pub(crate) use parallel_attention::{AttentionBatch, partials_len};
pub use scalar::Scalar;
pub(crate) use shared::Disjoint;
pub use shared::{SingleThread, ThreadPool};
pub use table::Kernels;

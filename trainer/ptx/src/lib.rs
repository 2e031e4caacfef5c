//! Interprets PTX, NVIDIA's virtual instruction set, so that a kernel is tested as nvcc compiled it, inline assembly
//! included, on a machine without a GPU.
//!
//! A [`Module`] is parsed from nvcc's text; an unknown instruction is an error that names it. [`Entry::launch`] runs a grid
//! block by block. The lanes of a warp run in lockstep and reconverge at the lowest instruction. The interpreter reports
//! what a GPU does not: reads of registers and memory that nobody has written, accesses outside an allocation or misaligned,
//! races between lanes, warps and blocks, divergent barriers.
//!
//! Approximate instructions (`ex2.approx`, ...) are rounded correctly here, and a tensor core's sum is taken in f64 and
//! rounded once. Semantics follow the PTX ISA 9.0.

mod access;
mod block;
mod copies;
mod decode;
mod entry;
mod error;
mod execute;
mod functions;
mod instruction;
mod launch;
mod memory;
mod operands;
mod parse;
mod run;
mod shared;
mod types;
mod warp;

pub use entry::{Entry, Module, Parameter};
pub use error::{KernelError, ParseError};
pub use launch::{Counts, Grid, LaunchArgument};
pub use memory::{Element, Memory, Pointer};

//! Runs the language model in a `.thimble` file.
//!
//! Without `std` and `alloc`: the caller maps the file and provides the memory that a [`memory::MemoryPlan`] requires; the
//! runtime allocates nothing.
#![no_std]
#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("thimble files are little-endian and are read in place");

#[cfg(test)]
extern crate std;

pub mod adapter;
pub mod chat;
pub mod cpu;
pub mod embedding;
pub mod format;
pub mod kernels;
pub mod lookup;
pub mod memory;
pub mod model;
pub mod sampler;
pub mod sequence;
pub mod sequences;
pub mod session;
pub mod stop;
pub mod tokenizer;
pub mod utf8;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A token, by its id in the vocabulary.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Token(pub u32);

impl Token {
    /// The id as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

//! The configuration of a model in `config.json` and in GGUF metadata, for every family.
//!
//! One reader and one writer of each, shared with the trainer. A new option of layers changes `options.rs`, a new
//! rule of RoPE `rope.rs`, and a new family also `family.rs`.

mod family;
mod fields;
pub(crate) mod gguf;
mod hugging_face;
mod options;
mod rope;
mod rope_divisors;
#[cfg(test)]
mod rope_tests;

pub use family::Family;
pub(crate) use fields::token_ids;
pub use hugging_face::{config_json, read_config_json};

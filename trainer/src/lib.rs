//! Thimble's trainer: text to token shards, token shards to a Llama, a Llama to a Hugging Face folder.
//!
//! The engine ([`model`]) is explicit: a straight-line forward and backward pass over one arena, each operation
//! ([`ops`]) beside its gradient. [`data`] feeds it, [`recipe`] says what to do, [`report`] shows what happens.

mod atomic_file;
pub mod base;
pub mod bench;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod error;
pub mod export;
pub mod frozen;
pub mod init_from;
pub mod merge;
pub mod model;
pub mod objective;
pub mod ops;
pub mod parity;
pub mod peft;
pub mod plan;
pub mod prediction;
pub mod quantization;
mod random;
pub mod recipe;
pub mod report;
pub mod schedule;
pub mod scoring;
pub mod shell;
pub mod teacher;
pub mod training;
mod units;
pub mod weights;

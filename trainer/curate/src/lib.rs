//! From raw text to a training set, without a model: reading, deduplication, decontamination, scores.
#![forbid(unsafe_code)]

pub mod error;
pub mod source;

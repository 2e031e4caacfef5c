//! From raw text to a training set, without a model: reading, deduplication, decontamination, scores.
#![forbid(unsafe_code)]

pub mod decontaminate;
pub mod dedup;
pub mod document;
pub mod each;
pub mod error;
pub mod fasttext;
mod parallel;
pub mod pipeline;
pub mod rules;
pub mod score;
pub mod source;
pub mod text;

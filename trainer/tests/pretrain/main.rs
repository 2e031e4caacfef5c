//! `thimble-train pretrain` and `export`, as a person runs them: on a model so small that a run takes a moment.
#![allow(clippy::unwrap_used)]

mod eval;
mod export;
mod kills;
mod plan;
mod quantize;
mod quantize_stage;
mod recovery;
mod refusals;
mod resume;
mod setup;
mod tuning;

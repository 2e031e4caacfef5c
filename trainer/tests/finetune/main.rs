//! `thimble-train finetune` on small models: the losses and weights of TRL, the same bits for any number of threads and
//! after kills, and what it leaves behind.
#![allow(clippy::unwrap_used)]

#[path = "../pretrain/kills.rs"]
mod kills;
mod reference;
mod runs;
mod setup;
mod skips;

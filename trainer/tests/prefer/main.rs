//! `thimble-train prefer` and `parity` on small models: TRL's values, the same bits for any number of threads and after
//! kills, references that belong to another model or other data, and the data that it reads.
#![allow(clippy::unwrap_used)]

mod data;
mod reference;
mod runs;
mod setup;

//! Conversations against TRL and transformers: tokens, masks, bins and losses; and the rows of real data sets.
#![allow(clippy::unwrap_used)]

mod files;
mod masks;
mod reference;

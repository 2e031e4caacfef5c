//! From checkpoints to `.thimble` files.

pub mod chat;

//! Thimble on an operating system: what the runtime needs `std` for.

pub mod template;

//! A chat with a `.thimble` model in a web page: what the module worker of the npm package `thimble` calls.
//!
//! An instance of this module holds one model for as long as its worker lives. Ending the worker frees its memory: that is
//! why the file and the inference memory are leaked, and views of them need no lifetime.

mod engine;
mod error;
mod memory;
mod model;
mod options;

pub use engine::WebEngine;
pub use memory::FileMemory;

//! Turns Hugging Face folders and GGUF files into `.thimble` files.

pub mod chat;
pub mod tokenizer;

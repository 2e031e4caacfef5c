//! The tokenizer against the `tokenizers` crate: the same ids on every text, special tokens parsed or not.
//!
//! The small vocabularies are trained here. The feature `slow` adds the long runs on SmolLM2's vocabulary:
//! a GGUF file named by `THIMBLE_GGUF`, the texts of the `shared` folder beside the checkout (or
//! `THIMBLE_SHARED`), and a million random strings.

#[path = "tokenizer/common.rs"]
mod common;
#[path = "tokenizer/families.rs"]
mod families;
#[cfg(feature = "slow")]
#[path = "tokenizer/gguf.rs"]
mod gguf;
#[path = "tokenizer/golden.rs"]
mod golden;
#[path = "tokenizer/hostile.rs"]
mod hostile;
#[path = "tokenizer/parity.rs"]
mod parity;
#[cfg(feature = "slow")]
#[path = "tokenizer/slow.rs"]
mod slow;

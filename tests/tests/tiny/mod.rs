//! Tiny random Llama models, written by the test itself as a Hugging Face folder or as GGUF bytes.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part")]

mod folder;
mod gguf;
mod shape;
mod tokenizer;

pub use folder::*;
pub use gguf::*;
pub use shape::*;
pub use tokenizer::*;

/// Bytes on a 64-byte boundary, as a mapping has them.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Aligned {
        let mut room = vec![0; bytes.len() + 64];
        let start = room.as_ptr().align_offset(64);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        room.truncate(start + bytes.len());
        Aligned { bytes: room, start }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

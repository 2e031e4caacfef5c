//! Byte-level BPE. (Replaced by the helper who owns this folder.)

use crate::format::FormatError;

/// A view on the tokenizer tables.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'f> {
    bytes: &'f [u8],
}

impl<'f> Tokenizer<'f> {
    /// Checks the section.
    pub fn parse(bytes: &'f [u8], _vocab: usize) -> Result<Self, FormatError> {
        Ok(Tokenizer { bytes })
    }
}

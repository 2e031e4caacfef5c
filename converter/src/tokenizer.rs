//! Tokenizers of Hugging Face folders and GGUF files, turned into the tables that the runtime reads.
//!
//! A [`Vocabulary`] is what both sources have in common. [`Vocabulary::emit`] writes the tables, and
//! [`verify_against`] compares the runtime's ids with those of the `tokenizers` crate on a battery of texts:
//! no conversion ships a tokenizer that differs.

mod alphabet;
mod emit;
mod error;
mod gguf;
mod json;
mod spelling;
mod tables;
mod verify;

#[cfg(all(test, feature = "calibrate"))]
pub(crate) use alphabet::char_of;
pub use error::TokenizerError;
pub use spelling::GgufLists;
pub use verify::{test_texts, verify_against};

use std::collections::HashMap;
use thimble_runtime::tokenizer::layout;

/// A byte-level BPE vocabulary with the GPT-2 pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The raw bytes of each token, at its id; empty where no token has that id.
    pub tokens: Vec<Vec<u8>>,
    /// Left, right and merged id of each merge, by rank. A pair that comes twice has the later rank, as in
    /// the `tokenizers` crate.
    pub merges: Vec<(u32, u32, u32)>,
    /// Tokens that are found in the raw text, before it is cut into words.
    pub added: Vec<AddedToken>,
    /// The token of each byte; `None` where the vocabulary lacks it.
    pub bytes: [Option<u32>; 256],
    /// Whether each digit is a word of its own.
    pub digits_apart: bool,
}

/// An added token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its text, exactly as it stands in the input.
    pub text: String,
    /// Whether it is a special token: not text, and not to be forged by a user.
    pub special: bool,
    /// Whether it is looked for in the second pass, in what the others left.
    pub normalized: bool,
}

impl Vocabulary {
    /// Checks what both sources have to obey, so that the tables cannot contradict themselves.
    fn check(self) -> Result<Self, TokenizerError> {
        if self.tokens.len() > layout::MOST_TOKENS {
            return Err(TokenizerError::TooMany {
                what: "tokens",
                most: layout::MOST_TOKENS,
                found: self.tokens.len(),
            });
        }
        if self.merges.len() > layout::MOST_MERGES {
            return Err(TokenizerError::TooMany {
                what: "merges",
                most: layout::MOST_MERGES,
                found: self.merges.len(),
            });
        }
        let mut texts = HashMap::new();
        for added in &self.added {
            if added.text.is_empty() {
                return Err(TokenizerError::EmptyAdded { id: added.id });
            }
            if let Some(other) = texts.insert(&added.text, added.id) {
                return Err(TokenizerError::DuplicateAdded {
                    text: added.text.clone(),
                    ids: [other, added.id],
                });
            }
        }
        if let Some(byte) = (b' '..=b'~').find(|&byte| self.bytes[usize::from(byte)].is_none()) {
            return Err(TokenizerError::MissingByte { byte });
        }
        Ok(self)
    }

    /// The bytes that no token stands for; text with them cannot be expressed, and the `tokenizers` crate
    /// drops them as well.
    pub fn missing_bytes(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|&byte| self.bytes[usize::from(byte)].is_none()).collect()
    }

    /// The merges as the map that merging needs: pair to rank and merged id.
    fn merge_map(&self) -> HashMap<(u32, u32), (u32, u32)> {
        let ranks = self.merges.iter().zip(0..);
        ranks.map(|(&(left, right, merged), rank)| ((left, right), (rank, merged))).collect()
    }
}

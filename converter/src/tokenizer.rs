//! Converts tokenizers of Hugging Face folders and GGUF files to the tables of the runtime.
//!
//! A [`Vocabulary`] is the common form of both. [`Vocabulary::emit`] writes the tables, and [`verify_against`] compares
//! the runtime's ids with those of the `tokenizers` crate on test texts: a conversion fails if they differ.

mod alphabet;
mod component;
mod emit;
mod error;
mod gguf;
mod json;
mod overrides;
mod pattern;
mod post_processor;
mod spelling;
mod tables;
mod verify;

#[cfg(all(test, feature = "calibrate"))]
pub(crate) use alphabet::char_of;
pub use error::TokenizerError;
pub use overrides::GgufOverrides;
pub(crate) use pattern::gguf_adds_bos;
pub use post_processor::TextStart;
pub use spelling::GgufLists;
pub use verify::{test_texts, verify_against};

use std::collections::HashMap;
use thimble_runtime::tokenizer::{Pattern, layout};

/// A byte-level BPE vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The bytes of each token by id; empty if no token has the id.
    pub tokens: Vec<Vec<u8>>,
    /// Left, right and merged id of each merge, by rank. A duplicate pair has the later rank, as in the `tokenizers`
    /// crate.
    pub merges: Vec<(u32, u32, u32)>,
    /// Tokens that are matched in the raw text, before it is split into words.
    pub added: Vec<AddedToken>,
    /// The token of each byte; `None` if the vocabulary lacks it.
    pub bytes: [Option<u32>; 256],
    /// The pattern that cuts text into words.
    pub pattern: Pattern,
    /// Whether a word that is a token is that token, whatever merging makes of it (`ignore_merges`).
    pub whole_words: bool,
    /// Whether text is normalized to NFC.
    pub nfc: bool,
    /// Whether a text by itself begins with the begin-of-text token.
    pub adds_bos: bool,
}

/// An added token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// Its exact text.
    pub text: String,
    /// Whether it is a special token, which user text must not produce.
    pub special: bool,
    /// Whether it is matched in the second pass, after the others.
    pub normalized: bool,
}

impl Vocabulary {
    /// Checks the invariants of the tables.
    fn check(self) -> Result<Self, TokenizerError> {
        if self.tokens.len() > layout::MAX_TOKENS {
            return Err(TokenizerError::TooMany {
                what: "tokens",
                most: layout::MAX_TOKENS,
                found: self.tokens.len(),
            });
        }
        if self.merges.len() > layout::MAX_MERGES {
            return Err(TokenizerError::TooMany {
                what: "merges",
                most: layout::MAX_MERGES,
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

    /// The bytes without a token. Encoding drops them, as the `tokenizers` crate does.
    pub fn missing_bytes(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|&byte| self.bytes[usize::from(byte)].is_none()).collect()
    }

    /// The merges as a map from a pair to rank and merged id.
    fn merge_map(&self) -> HashMap<(u32, u32), (u32, u32)> {
        let ranks = self.merges.iter().zip(0..);
        ranks.map(|(&(left, right, merged), rank)| ((left, right), (rank, merged))).collect()
    }
}

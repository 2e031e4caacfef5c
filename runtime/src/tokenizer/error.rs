//! Errors of encoding.

use thiserror::Error;

/// Why [`super::Tokenizer::encode`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output is too short.
    #[error("the text has more than {capacity} tokens, which is all the room there is")]
    OutOfRoom {
        /// Its length, tokens.
        capacity: usize,
    },
    /// The scratch memory is too small for a word.
    #[error("a word of {bytes} bytes takes {expected} bytes of scratch memory, only {capacity} were lent")]
    WordTooLong {
        /// Length of the word, bytes.
        bytes: usize,
        /// Required scratch memory, bytes: [`super::Tokenizer::scratch_bytes`].
        expected: usize,
        /// Available scratch memory, bytes.
        capacity: usize,
    },
    /// The scratch memory is too small to normalize the text.
    #[error("normalizing the text takes {expected} bytes of scratch memory, only {capacity} were lent")]
    Scratch {
        /// Required scratch memory, bytes: [`super::Tokenizer::scratch_for`].
        expected: usize,
        /// Available scratch memory, bytes.
        capacity: usize,
    },
    /// A table refers to a token outside the vocabulary: the file is damaged.
    #[error("the tokenizer's tables are damaged: they name token {id} of {tokens}")]
    DamagedTables {
        /// The token's id.
        id: u32,
        /// Vocabulary size.
        tokens: u32,
    },
}

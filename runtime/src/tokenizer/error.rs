//! Why text could not be encoded.

use thiserror::Error;

/// Why [`super::Tokenizer::encode`] gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text has more tokens than fit.
    #[error("the text has more than {capacity} tokens, which is all the room there is")]
    OutOfRoom {
        /// Tokens that fit.
        capacity: usize,
    },
    /// A single word is too long for the scratch memory.
    #[error("a word of {bytes} bytes takes {expected} bytes of scratch memory, only {capacity} were lent")]
    PieceTooLong {
        /// Bytes of the word.
        bytes: usize,
        /// Scratch bytes it takes: [`super::Tokenizer::scratch_bytes`].
        expected: usize,
        /// Scratch bytes lent.
        capacity: usize,
    },
    /// The file's tables name a token that they do not have: the file is damaged.
    #[error("the tokenizer's tables are damaged: they name token {id} of {tokens}")]
    DamagedTables {
        /// The id named.
        id: u32,
        /// Tokens in the vocabulary.
        tokens: u32,
    },
}

//! Errors of a source's tokenizer.

use thimble_runtime::format::FormatError;
use thimble_runtime::tokenizer::EncodeError;
use thiserror::Error;

/// Why a tokenizer cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// An invalid `tokenizer.json`.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A tokenizer that the runtime does not support.
    #[error("tokenizer: {part} is {found}, but only {expected} is supported")]
    Unsupported {
        /// The part of the tokenizer.
        part: &'static str,
        /// The supported value.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// Too many entries for the tables.
    #[error("tokenizer: {found} {what}, at most {most} are supported")]
    TooMany {
        /// The kind of entries.
        what: &'static str,
        /// The limit.
        most: usize,
        /// Entries found.
        found: usize,
    },
    /// Two tokens with the same text or id.
    #[error("tokenizer: token {text:?} (id {id}) appears twice")]
    DuplicateToken {
        /// Its text in the source's spelling.
        text: String,
        /// Its id.
        id: u32,
    },
    /// Two added tokens with the same text.
    #[error("tokenizer: the added token {text:?} has the ids {ids:?}")]
    DuplicateAdded {
        /// Its text.
        text: String,
        /// Both ids.
        ids: [u32; 2],
    },
    /// An added token without text.
    #[error("tokenizer: the added token {id} has no text")]
    EmptyAdded {
        /// Its id.
        id: u32,
    },
    /// An added token with the id of another token.
    #[error("tokenizer: the added token {text:?} has the id {id}, which belongs to {other:?}")]
    AddedId {
        /// Its text.
        text: String,
        /// Its id.
        id: u32,
        /// The text that has this id, or the id that the text has.
        other: String,
    },
    /// A printable ASCII character without a token.
    #[error("tokenizer: no token stands for the byte {byte:#04x}, so it is not byte-level")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A merge that is not a pair of tokens.
    #[error("tokenizer: merge {rank} is {text:?}, expected two tokens with a blank between them")]
    BadMerge {
        /// Its rank.
        rank: usize,
        /// The text found.
        text: String,
    },
    /// A merge with a token that is not in the vocabulary.
    #[error("tokenizer: merge {rank} uses {text:?}, which is not in the vocabulary")]
    UnknownMerge {
        /// Its rank.
        rank: usize,
        /// The unknown token.
        text: String,
    },
    /// Lists of different lengths.
    #[error("tokenizer: {found} token types for {expected} tokens")]
    TypeCount {
        /// Tokens.
        expected: usize,
        /// Types.
        found: usize,
    },
    /// The runtime rejects the tables: a bug of the converter.
    #[error("the emitted tables are refused: {0}")]
    Refused(#[from] FormatError),
    /// The runtime cannot encode a test text.
    #[error("the emitted tables cannot encode {text:?}: {error}")]
    NotEncoded {
        /// The start of the text.
        text: String,
        /// The runtime's error.
        error: EncodeError,
    },
    /// The `tokenizers` crate rejects the source.
    #[error("the tokenizers crate refuses this tokenizer: {0}")]
    Oracle(String),
    /// The runtime's ids differ from those of the `tokenizers` crate.
    #[error("{text:?} becomes {found:?}, but the tokenizers crate says {expected:?}")]
    Differs {
        /// The start of the text.
        text: String,
        /// The oracle's ids around the first difference.
        expected: Vec<u32>,
        /// The runtime's ids there.
        found: Vec<u32>,
    },
}

//! What can be wrong with a source's tokenizer.

use thimble_runtime::format::FormatError;
use thimble_runtime::tokenizer::EncodeError;
use thiserror::Error;

/// Why a tokenizer cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// `tokenizer.json` is not JSON, or not of the shape that the `tokenizers` crate writes.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A kind of tokenizer that the runtime has no code for.
    #[error("tokenizer: {part} is {found}, but only {expected} is supported")]
    Unsupported {
        /// Which part of the tokenizer.
        part: &'static str,
        /// What is supported.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// More entries than the tables have room for.
    #[error("tokenizer: {found} {what}, at most {most} are supported")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Most entries.
        most: usize,
        /// Entries found.
        found: usize,
    },
    /// Two tokens of the same text or the same id.
    #[error("tokenizer: token {text:?} (id {id}) appears twice")]
    DuplicateToken {
        /// Its text in the source's spelling.
        text: String,
        /// Its id.
        id: u32,
    },
    /// The same text added twice.
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
    /// A merge that is not two tokens.
    #[error("tokenizer: merge {rank} is {text:?}, expected two tokens with a blank between them")]
    BadMerge {
        /// Its place.
        rank: usize,
        /// What stands there.
        text: String,
    },
    /// A merge of, or into, something that is not in the vocabulary.
    #[error("tokenizer: merge {rank} names {text:?}, which is not in the vocabulary")]
    UnknownMerge {
        /// Its place.
        rank: usize,
        /// The token it names.
        text: String,
    },
    /// Lists that belong together differ in length.
    #[error("tokenizer: {found} token types for {expected} tokens")]
    TypeCount {
        /// Tokens.
        expected: usize,
        /// Types.
        found: usize,
    },
    /// The runtime refuses the tables: an error of the converter.
    #[error("the emitted tables are refused: {0}")]
    Refused(#[from] FormatError),
    /// The runtime cannot encode a text of the battery.
    #[error("the emitted tables cannot encode {text:?}: {error}")]
    NotEncoded {
        /// The text, or its beginning.
        text: String,
        /// What the runtime says.
        error: EncodeError,
    },
    /// The `tokenizers` crate refuses the source.
    #[error("the tokenizers crate refuses this tokenizer: {0}")]
    Oracle(String),
    /// The runtime's ids differ from those of the `tokenizers` crate.
    #[error("{text:?} becomes {found:?}, but the tokenizers crate says {expected:?}")]
    Differs {
        /// The text, or its beginning.
        text: String,
        /// The oracle's ids around the first difference.
        expected: Vec<u32>,
        /// The runtime's ids there.
        found: Vec<u32>,
    },
}

//! The tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`, model `gpt2`).

use super::alphabet::{char_of, raw_bytes};
use super::pattern::{self, GgufPattern};
use super::{AddedToken, TokenizerError, Vocabulary};
use std::collections::HashMap;

/// `tokenizer.ggml.token_type`, as llama.cpp numbers them.
pub(super) mod token_type {
    pub(in super::super) const NORMAL: i32 = 1;
    pub(in super::super) const UNKNOWN: i32 = 2;
    pub(in super::super) const CONTROL: i32 = 3;
    pub(in super::super) const USER_DEFINED: i32 = 4;
    pub(in super::super) const UNUSED: i32 = 5;
}

impl Vocabulary {
    /// Reads `tokenizer.ggml.tokens`, `token_type` (may be empty), `merges` and `pre`, where
    /// `tokenizer.ggml.model` is `gpt2`.
    ///
    /// # Errors
    /// Unknown pre-tokenizers, and inconsistent lists.
    pub fn from_gguf<T: AsRef<str>>(
        tokens: &[T],
        token_types: &[i32],
        merges: &[T],
        pre: &str,
    ) -> Result<Vocabulary, TokenizerError> {
        let &GgufPattern { pattern, whole_words, nfc, .. } = pattern::from_gguf(pre)?;
        if !token_types.is_empty() && token_types.len() != tokens.len() {
            return Err(TokenizerError::TypeCount { expected: tokens.len(), found: token_types.len() });
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        let mut raw = Vec::with_capacity(tokens.len());
        let mut added = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            let text = token.as_ref();
            let id = id_of(index)?;
            let kind = token_types.get(index).copied().unwrap_or(token_type::NORMAL);
            match kind {
                token_type::NORMAL => raw.push(raw_bytes(text)),
                token_type::UNKNOWN | token_type::CONTROL | token_type::USER_DEFINED => {
                    let special = kind != token_type::USER_DEFINED;
                    added.push(AddedToken { id, text: text.to_owned(), special, normalized: !special });
                    raw.push(text.as_bytes().to_vec());
                }
                // Padding rows of the embedding.
                token_type::UNUSED => {
                    raw.push(Vec::new());
                    continue;
                }
                other => {
                    return Err(TokenizerError::Unsupported {
                        part: "the type of a token (tokenizer.ggml.token_type)",
                        expected: "1 to 5",
                        found: format!("{other} for {text:?}"),
                    });
                }
            }
            if ids.insert(text, id).is_some() {
                return Err(TokenizerError::DuplicateToken { text: text.to_owned(), id });
            }
        }
        let merges = merges.iter().enumerate();
        let merges = merges.map(|(rank, merge)| parse_merge(rank, merge.as_ref(), &ids));
        let merges = merges.collect::<Result<_, _>>()?;
        let bytes = bytes_in(&ids);
        Vocabulary { tokens: raw, merges, added, bytes, pattern, whole_words, nfc, adds_bos: false }.check()
    }
}

/// The token of each byte.
pub(super) fn bytes_in(ids: &HashMap<&str, u32>) -> [Option<u32>; 256] {
    std::array::from_fn(|byte| {
        let letter = char_of(byte as u8);
        ids.get(&*letter.encode_utf8(&mut [0; 4])).copied()
    })
}

/// A merge spelled `left right`.
pub(super) fn parse_merge(
    rank: usize,
    merge: &str,
    ids: &HashMap<&str, u32>,
) -> Result<(u32, u32, u32), TokenizerError> {
    match merge.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => find_merge(rank, left, right, ids),
        _ => Err(TokenizerError::BadMerge { rank, text: merge.to_owned() }),
    }
}

/// The ids of a merge of two spelled tokens.
pub(super) fn find_merge(
    rank: usize,
    left: &str,
    right: &str,
    ids: &HashMap<&str, u32>,
) -> Result<(u32, u32, u32), TokenizerError> {
    if left.is_empty() || right.is_empty() {
        return Err(TokenizerError::BadMerge { rank, text: format!("{left} {right}") });
    }
    let find = |text: &str| {
        let unknown = || TokenizerError::UnknownMerge { rank, text: text.to_owned() };
        ids.get(text).copied().ok_or_else(unknown)
    };
    Ok((find(left)?, find(right)?, find(&format!("{left}{right}"))?))
}

/// An index in the list of tokens as an id.
fn id_of(index: usize) -> Result<u32, TokenizerError> {
    let most = thimble_runtime::tokenizer::layout::MAX_TOKENS;
    let id = u32::try_from(index).ok().filter(|_| index < most);
    id.ok_or(TokenizerError::TooMany { what: "tokens", most, found: index })
}

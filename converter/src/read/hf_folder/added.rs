//! Adds declared tokens to a `tokenizer.json`.

use super::added_token::AddedToken;
use super::tokens::DeclaredTokens;
use crate::ConvertError;
use crate::tokenizer::TokenizerError;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use thimble_files::contain;
use tokenizers::Tokenizer;

/// A `tokenizer.json` with added tokens.
pub(super) struct ExtendedTokenizer {
    /// The file.
    pub(super) bytes: Vec<u8>,
    /// Ids and texts of the tokens that were omitted: the embedding has no row for them.
    pub(super) without_row: Vec<(u32, String)>,
}

/// Adds the declared tokens to a `tokenizer.json` as the `tokenizers` crate does: new tokens get the next ids. The
/// embedding has `rows`. `None` if nothing changes.
///
/// # Errors
/// The crate rejects the file.
pub(super) fn add(
    tokenizer: &Json,
    declared: &DeclaredTokens,
    rows: usize,
) -> Result<Option<ExtendedTokenizer>, ConvertError> {
    let old = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let content = |token: &Json| Some(token.get("content")?.as_str()?.to_owned());
    let same: HashMap<String, &Json> =
        old.iter().filter_map(|token| Some((content(token)?, token))).collect();
    let is_there = |token: &AddedToken| {
        same.get(&token.content).is_some_and(|old| {
            serde_json::from_value::<tokenizers::AddedToken>((*old).clone())
                .is_ok_and(|old| old == token.to_tokenizers())
        })
    };
    let stay: HashSet<&str> = declared.add.iter().map(|token| token.content.as_str()).collect();
    let goes =
        |token: &Json| declared.replace && content(token).is_none_or(|text| !stay.contains(text.as_str()));
    if declared.add.iter().all(is_there) && !old.iter().any(goes) {
        return Ok(None);
    }
    let mut changed = tokenizer.clone();
    let old = if declared.replace { &[] } else { old };
    changed["added_tokens"] = old.into();
    let bytes = serde_json::to_vec(&changed).map_err(TokenizerError::from)?;
    let refused = |error: tokenizers::Error| TokenizerError::Oracle(error.to_string());
    let oracle = contain("tokenizers", || {
        let mut oracle = Tokenizer::from_bytes(bytes)?;
        oracle.add_tokens(declared.add.iter().map(AddedToken::to_tokenizers))?;
        Ok(oracle)
    });
    let oracle = oracle.unwrap_or_else(|panic| Err(panic.into())).map_err(refused)?;
    let vocabulary = oracle.get_added_vocabulary();
    let mut now: BTreeMap<u32, &tokenizers::AddedToken> =
        vocabulary.get_added_tokens_decoder().iter().map(|(&id, token)| (id, token)).collect();
    let json = |id: &Json, token: &tokenizers::AddedToken| {
        json!({
            "id": id, "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
            "rstrip": token.rstrip, "normalized": token.normalized,
            // A special token stays special, whatever later descriptions say.
            "special": vocabulary.is_special_token(&token.content),
        })
    };
    let mut list = Vec::with_capacity(now.len());
    for token in old {
        // The reader of the vocabulary rejects an id that differs from the crate's.
        let found = content(token).and_then(|text| vocabulary.get_vocab().get(&text));
        list.push(match found.and_then(|id| now.remove(id)).zip(token.get("id")) {
            Some((token, id)) => json(id, token),
            None => token.clone(),
        });
    }
    let mut without_row = Vec::new();
    for (id, token) in now {
        match usize::try_from(id).is_ok_and(|id| id < rows) {
            true => list.push(json(&id.into(), token)),
            false => without_row.push((id, token.content.clone())),
        }
    }
    changed["added_tokens"] = list.into();
    let bytes = serde_json::to_vec(&changed).map_err(TokenizerError::from)?;
    Ok(Some(ExtendedTokenizer { bytes, without_row }))
}

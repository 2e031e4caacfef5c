//! Added tokens in the words of Python's `AddedToken`, and their way into a `tokenizer.json`.

use super::ordered::Ordered;
use super::tokens::{Declared, wrong};
use crate::ConvertError;
use crate::tokenizer::TokenizerError;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use thimble_files::contain;
use tokenizers::{AddedToken, Tokenizer};

/// An added token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// Where nobody says, what is not special is.
    pub(super) normalized: Option<bool>,
    pub(super) special: bool,
}

impl Token {
    /// A special token of this text.
    pub(super) fn special(content: String) -> Token {
        Token { content, single_word: false, lstrip: false, rstrip: false, normalized: None, special: true }
    }

    /// Reads an object with `content` and flags.
    pub(super) fn parse(value: &Ordered, place: &'static str, field: &str) -> Result<Token, ConvertError> {
        let fail = || {
            wrong(place, field, "tokens as objects, with a text `content` and flags that are true or false")
        };
        let fields = value.fields().ok_or_else(fail)?;
        let content = fields.get("content").and_then(Ordered::text).ok_or_else(fail)?;
        let flag = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(Ordered::Plain(Json::Bool(flag))) => Ok(Some(*flag)),
            Some(_) => Err(fail()),
        };
        Ok(Token {
            content: content.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    /// Whether a value is a token, or marked as transformers marks those it saves.
    pub(super) fn is_typed(value: &Ordered) -> bool {
        let mark = value.fields().and_then(|fields| fields.get("__type")).and_then(Ordered::text);
        matches!(value, Ordered::Token(_)) || mark == Some("AddedToken")
    }

    fn crates(&self) -> AddedToken {
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }
}

/// A token that may be given by its text alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    /// The text.
    Plain(String),
    /// With flags.
    Token(Token),
}

impl Text {
    /// Reads a text, or an object with `content`.
    pub(super) fn parse(value: &Ordered, place: &'static str, field: &str) -> Result<Text, ConvertError> {
        match value {
            Ordered::Token(token) => Ok(Text::Token(token.clone())),
            Ordered::Object(_) => Ok(Text::Token(Token::parse(value, place, field)?)),
            value => match value.text() {
                Some(text) => Ok(Text::Plain(text.to_owned())),
                None => Err(wrong(place, field, "a text, or an object with the text `content`")),
            },
        }
    }

    pub(super) fn content(&self) -> &str {
        match self {
            Text::Plain(content) => content,
            Text::Token(token) => &token.content,
        }
    }
}

/// A `tokenizer.json` with more tokens.
pub(super) struct Changed {
    /// The file.
    pub(super) bytes: Vec<u8>,
    /// Ids and texts of new tokens that the embedding has no row for: they are not in the file.
    pub(super) without_row: Vec<(u32, String)>,
}

/// Adds the declared tokens to a `tokenizer.json` as the `tokenizers` crate does, which gives new ones the ids behind all
/// others. The embedding has `rows`. `None` where nothing changes.
///
/// # Errors
/// The crate does not read the file.
pub(super) fn add(
    tokenizer: &Json,
    declared: &Declared,
    rows: usize,
) -> Result<Option<Changed>, ConvertError> {
    let old = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let content = |token: &Json| Some(token.get("content")?.as_str()?.to_owned());
    let same: HashMap<String, &Json> =
        old.iter().filter_map(|token| Some((content(token)?, token))).collect();
    let is_there = |token: &Token| {
        same.get(&token.content).is_some_and(|old| {
            serde_json::from_value::<AddedToken>((*old).clone()).is_ok_and(|old| old == token.crates())
        })
    };
    let stay: HashSet<&str> = declared.add.iter().map(|token| token.content.as_str()).collect();
    let goes =
        |token: &Json| declared.anew && content(token).is_none_or(|text| !stay.contains(text.as_str()));
    if declared.add.iter().all(is_there) && !old.iter().any(goes) {
        return Ok(None);
    }
    let mut changed = tokenizer.clone();
    let old = if declared.anew { &[] } else { old };
    changed["added_tokens"] = old.into();
    let bytes = serde_json::to_vec(&changed).map_err(TokenizerError::from)?;
    let refused = |error: tokenizers::Error| TokenizerError::Oracle(error.to_string());
    let oracle = contain("tokenizers", || {
        let mut oracle = Tokenizer::from_bytes(bytes)?;
        oracle.add_tokens(declared.add.iter().map(Token::crates))?;
        Ok(oracle)
    });
    let oracle = oracle.unwrap_or_else(|panic| Err(panic.into())).map_err(refused)?;
    let vocabulary = oracle.get_added_vocabulary();
    let mut now: BTreeMap<u32, &AddedToken> =
        vocabulary.get_added_tokens_decoder().iter().map(|(&id, token)| (id, token)).collect();
    let json = |id: &Json, token: &AddedToken| {
        json!({
            "id": id, "content": token.content, "single_word": token.single_word, "lstrip": token.lstrip,
            "rstrip": token.rstrip, "normalized": token.normalized,
            // A token that was special once stays so, whatever a later description says.
            "special": vocabulary.is_special_token(&token.content),
        })
    };
    let mut list = Vec::with_capacity(now.len());
    for token in old {
        // An id that is not what the crate makes of it is for the reader of the vocabulary to refuse.
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
    Ok(Some(Changed { bytes, without_row }))
}

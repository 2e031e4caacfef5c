//! The special and added tokens that the files beside a `tokenizer.json` declare, merged as transformers 5 does
//! (`PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`).
//!
//! `tokenizer_config.json` names tokens (`bos_token` and other keys that end in `_token`), lists more
//! (`extra_special_tokens`, in old files `additional_special_tokens`) and may describe all of them
//! (`added_tokens_decoder`). Only if it does not, `special_tokens_map.json` and `added_tokens.json` apply.

use super::added_token::AddedToken;
use super::ordered::{Fields, OrderedJson};
use super::token_spec::TokenSpec;
use crate::ConvertError;
use crate::read::names::{
    ADDED_TOKENS as ADDED, SPECIAL_TOKENS_MAP as MAP, TOKENIZER_CONFIG as CONFIG, TOKENIZER_JSON,
};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};

const EXTRA: &str = "extra_special_tokens";
/// The old name of `EXTRA`.
const ADDITIONAL: &str = "additional_special_tokens";
const SPECIFIC: &str = "model_specific_special_tokens";
const DECODER: &str = "added_tokens_decoder";
/// The standard names of special tokens.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The class that rebuilds its tokenizer and has default special tokens.
const GPT2: [&str; 2] = ["GPT2Tokenizer", "GPT2TokenizerFast"];
/// Classes that use `tokenizer.json` unchanged and ignore `add_prefix_space`.
const PLAIN: [&str; 4] =
    ["TokenizersBackend", "PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast"];

/// The JSON files about tokens.
pub(super) struct TokenFiles {
    /// tokenizer_config.json.
    pub(super) config: Fields,
    /// special_tokens_map.json.
    pub(super) map: Option<Fields>,
    /// added_tokens.json.
    pub(super) added: Option<Fields>,
    /// The tokenizer's class in config.json, if tokenizer_config.json has none.
    pub(super) class: Option<String>,
}

/// The declared tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeclaredTokens {
    /// The named tokens and their texts, in the order of transformers.
    pub(super) named: Vec<(String, String)>,
    /// Tokens to add to those of tokenizer.json, in order; most are already there.
    pub(super) add: Vec<AddedToken>,
    /// Whether `add` replaces the added tokens of tokenizer.json.
    pub(super) replace: bool,
}

impl DeclaredTokens {
    /// The text of a named token; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.named.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text)
    }

    /// Merges the declarations. `tokenizer` is tokenizer.json.
    ///
    /// # Errors
    /// Values that transformers rejects too, and settings that the runtime does not support.
    pub(super) fn new(files: TokenFiles, tokenizer: &Json) -> Result<DeclaredTokens, ConvertError> {
        let TokenFiles { config: mut init, map, added, class } = files;
        let class = init.get("tokenizer_class").and_then(OrderedJson::text).map(str::to_owned).or(class);
        let class = class.unwrap_or_default();
        refuse_settings(&init, &class)?;
        let replace = GPT2.contains(&class.as_str());
        let there = of_tokenizer_json(tokenizer)?;

        let mut own = own_names(&mut init);
        let (decoder, place) = match init.shift_remove(DECODER) {
            Some(described) => (described_tokens(&described)?, CONFIG),
            None => {
                let place = if map.is_some() { MAP } else { CONFIG };
                if let Some(map) = map {
                    merge(&mut init, map)?;
                    move_extra(&mut init, &mut own);
                }
                let mut decoder = BTreeMap::new();
                if let Some(added) = added {
                    decoder.extend(plain_added(added, &init)?);
                }
                decoder.extend(there.clone());
                (decoder, place)
            }
        };
        for (name, value) in defaults(tokenizer, replace) {
            if init.get(name).is_none() {
                init.insert(name.to_owned(), value);
            }
        }
        let named = named(&mut init, own, &decoder, place)?;
        let extra = extra(&mut init, place)?;

        let mut known: HashSet<String> = decoder.values().map(|token| token.content.clone()).collect();
        if !replace {
            known.extend(there.into_values().map(|token| token.content));
        }
        let mut add: Vec<TokenSpec> = decoder.into_values().map(TokenSpec::Token).collect();
        let mut seen = HashSet::new();
        for text in named.iter().map(|(_, text)| text).chain(&extra) {
            if !known.contains(text.content()) && seen.insert(text) {
                add.push(text.clone());
            }
        }
        let named_texts: HashSet<&str> = named.iter().map(|(_, text)| text.content()).collect();
        let special = |text: TokenSpec| match text {
            TokenSpec::Text(content) => AddedToken::special(content),
            TokenSpec::Token(token) => {
                let special = token.special || named_texts.contains(token.content.as_str());
                AddedToken { special, ..token }
            }
        };
        let add = add.into_iter().map(special).collect();
        let named = named.iter().map(|(name, text)| (name.clone(), text.content().to_owned())).collect();
        Ok(DeclaredTokens { named, add, replace })
    }
}

/// Removes the model's own token names with plain texts from tokenizer_config.json.
fn own_names(init: &mut Fields) -> Fields {
    if !init.get(EXTRA).is_some_and(is_true)
        && let Some(old) = init.shift_remove(ADDITIONAL)
    {
        init.insert(EXTRA.to_owned(), old);
    }
    let mut own = Fields::default();
    let texts: Vec<String> = init
        .iter()
        .filter(|(name, value)| value.text().is_some() && is_own_name(name, value))
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in texts {
        if let Some(value) = init.shift_remove(&name) {
            own.insert(name, value);
        }
    }
    move_extra(init, &mut own);
    if own.is_empty()
        && let Some(OrderedJson::Object(fields)) = init.shift_remove(SPECIFIC)
    {
        own = fields;
    }
    own
}

/// The tokens of `added_tokens_decoder` by id.
fn described_tokens(described: &OrderedJson) -> Result<BTreeMap<i64, AddedToken>, ConvertError> {
    let wrong = || ConvertError::field(CONFIG, DECODER, "an object of tokens by id");
    let token = |(id, token): (&String, &OrderedJson)| {
        let id = id.trim().parse().map_err(|_| wrong())?;
        Ok((id, AddedToken::parse(token, CONFIG, DECODER)?))
    };
    described.fields().ok_or_else(wrong)?.iter().map(token).collect()
}

/// Default names, for keys that are absent (not null).
fn defaults(tokenizer: &Json, gpt2: bool) -> Vec<(&'static str, OrderedJson)> {
    let end = "<|endoftext|>";
    let padding = tokenizer.get("padding").and_then(|padding| padding.get("pad_token"));
    match gpt2 {
        // A text without a token would add one.
        true if token_id(tokenizer, end).is_some() => {
            ["bos_token", "eos_token", "unk_token"].map(|name| (name, OrderedJson::Plain(end.into()))).into()
        }
        true => Vec::new(),
        false => padding.map(|text| ("pad_token", OrderedJson::Plain(text.clone()))).into_iter().collect(),
    }
}

/// All named tokens in the order of transformers: standard names, then the model's own, objects before texts.
fn named(
    init: &mut Fields,
    own: Fields,
    decoder: &BTreeMap<i64, AddedToken>,
    place: &'static str,
) -> Result<Vec<(String, TokenSpec)>, ConvertError> {
    let by_text: HashMap<&str, &AddedToken> =
        decoder.values().map(|token| (token.content.as_str(), token)).collect();
    let mut named = Vec::new();
    for name in NAMES {
        if let Some(text) = init.shift_remove(name).filter(|value| !value.is_null()) {
            let text = TokenSpec::parse(&text, place, name)?;
            let described = by_text.get(text.content()).map(|&token| TokenSpec::Token(token.clone()));
            named.push((name.to_owned(), described.unwrap_or(text)));
        }
    }
    let mut all = Fields::default();
    let late: Vec<String> = init
        .iter()
        .filter(|(name, value)| is_own_name(name, value))
        .map(|(name, _)| name.to_owned())
        .collect();
    let late = late.into_iter().filter_map(|name| init.shift_remove(&name).map(|value| (name, value)));
    for (name, value) in late.chain(own) {
        all.insert(name, value);
    }
    for (name, value) in all {
        let text = TokenSpec::parse(&value, place, &name)?;
        match named.iter_mut().take(NAMES.len()).find(|(known, _)| *known == name) {
            Some((_, usual)) => *usual = text,
            None => named.push((name, text)),
        }
    }
    Ok(named)
}

/// The listed tokens without names.
fn extra(init: &mut Fields, place: &'static str) -> Result<Vec<TokenSpec>, ConvertError> {
    match init.shift_remove(EXTRA).or_else(|| init.shift_remove(ADDITIONAL)) {
        None => Ok(Vec::new()),
        Some(OrderedJson::Array(list)) => {
            list.iter().map(|token| TokenSpec::parse(token, place, EXTRA)).collect()
        }
        Some(list) if list.is_null() => Ok(Vec::new()),
        Some(_) => {
            Err(ConvertError::field(place, EXTRA, "a list of strings, or an object of strings by name"))
        }
    }
}

/// Whether a key of tokenizer_config.json is the model's own token name.
fn is_own_name(name: &str, value: &OrderedJson) -> bool {
    let text = value.text().is_some() || AddedToken::is_typed(value);
    name.ends_with("_token") && !NAMES.contains(&name) && text
}

/// Moves `extra_special_tokens` to the named tokens if it is an object.
fn move_extra(init: &mut Fields, specific: &mut Fields) {
    if init.get(EXTRA).is_some_and(|extra| extra.fields().is_some())
        && let Some(OrderedJson::Object(fields)) = init.shift_remove(EXTRA)
    {
        for (name, value) in fields {
            specific.insert(name, value);
        }
    }
}

/// Overrides tokenizer_config.json with special_tokens_map.json.
fn merge(init: &mut Fields, map: Fields) -> Result<(), ConvertError> {
    for (name, value) in map {
        let value = match value {
            OrderedJson::Object(fields) if name != EXTRA => {
                let token = AddedToken::parse(&OrderedJson::Object(fields), MAP, &name)?;
                OrderedJson::Token(AddedToken { special: true, ..token })
            }
            OrderedJson::Array(list) if name == EXTRA => {
                let mut all = match init.shift_remove(EXTRA) {
                    Some(OrderedJson::Array(all)) => all,
                    _ => Vec::new(),
                };
                let mut seen: HashSet<String> =
                    all.iter().filter_map(OrderedJson::text).map(str::to_owned).collect();
                for token in list {
                    let token = match token {
                        OrderedJson::Object(_) => {
                            let token = AddedToken::parse(&token, MAP, EXTRA)?;
                            OrderedJson::Token(AddedToken { special: true, ..token })
                        }
                        other => other,
                    };
                    if token.text().is_none_or(|text| seen.insert(text.to_owned())) {
                        all.push(token);
                    }
                }
                OrderedJson::Array(all)
            }
            other => other,
        };
        init.insert(name, value);
    }
    Ok(())
}

/// The tokens of added_tokens.json (ids by text); those named or listed as special are special.
fn plain_added(added: Fields, init: &Fields) -> Result<Vec<(i64, AddedToken)>, ConvertError> {
    let named = NAMES.iter().filter_map(|name| init.get(*name));
    let listed = match init.get(EXTRA) {
        Some(OrderedJson::Array(list)) => list.as_slice(),
        _ => &[],
    };
    // As in transformers, objects of tokenizer_config.json are not parsed yet.
    let content = |value: &OrderedJson| match value {
        OrderedJson::Token(token) => Some(token.content.clone()),
        other => other.text().map(str::to_owned),
    };
    let special: HashSet<String> = named.chain(listed).filter_map(content).collect();
    let token = |(content, id): (String, OrderedJson)| {
        let id = match &id {
            OrderedJson::Plain(Json::Number(id)) => id.as_i64(),
            _ => None,
        };
        let special = special.contains(&content);
        let id = id.ok_or_else(|| ConvertError::field(ADDED, &content, "an id"))?;
        Ok((id, AddedToken { special, normalized: Some(!special), ..AddedToken::special(content) }))
    };
    added.into_iter().map(token).collect()
}

/// The added tokens of tokenizer.json by id. The reader of the vocabulary checks the rest.
fn of_tokenizer_json(tokenizer: &Json) -> Result<BTreeMap<i64, AddedToken>, ConvertError> {
    let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let token = |token: &Json| {
        let id = token.get("id").and_then(Json::as_i64);
        let id = id.ok_or_else(|| {
            ConvertError::field(TOKENIZER_JSON, "added_tokens", "a list of tokens with ids")
        })?;
        let ordered = serde_json::from_value(token.clone());
        let ordered =
            ordered.map_err(|_| ConvertError::field(TOKENIZER_JSON, "added_tokens", "a list of tokens"))?;
        Ok((id, AddedToken::parse(&ordered, TOKENIZER_JSON, "added_tokens")?))
    };
    added.iter().map(token).collect()
}

/// Rejects settings that change ids and that the runtime does not support.
fn refuse_settings(config: &Fields, class: &str) -> Result<(), ConvertError> {
    let ignored = PLAIN.contains(&class);
    for (key, ignored) in [("add_prefix_space", ignored), ("split_special_tokens", false)] {
        if !ignored && config.get(key).is_some_and(is_true) {
            let supported = "false: text is split unchanged, and special tokens stay whole";
            return Err(ConvertError::unsupported(format!("{CONFIG}: {key}"), "true", supported));
        }
    }
    Ok(())
}

/// Whether a value is true in Python.
fn is_true(value: &OrderedJson) -> bool {
    match value {
        OrderedJson::Object(fields) => !fields.is_empty(),
        OrderedJson::Array(items) => !items.is_empty(),
        OrderedJson::Token(_) => true,
        OrderedJson::Plain(Json::Bool(value)) => *value,
        OrderedJson::Plain(Json::String(text)) => !text.is_empty(),
        OrderedJson::Plain(Json::Number(number)) => number.as_f64() != Some(0.0),
        OrderedJson::Plain(_) => false,
    }
}

/// The id of a token in tokenizer.json, by its text.
pub(super) fn token_id(tokenizer: &Json, text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let added = added.iter().find(|t| t.get("content").is_some_and(|c| c == text)).and_then(|t| t.get("id"));
    let id = added.or_else(|| tokenizer.get("model")?.get("vocab")?.get(text))?;
    u32::try_from(id.as_u64()?).ok()
}

/// The text of a token in tokenizer.json, by its id.
pub(super) fn token_text(tokenizer: &Json, id: u32) -> Option<&str> {
    let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let added = added.iter().find(|token| token.get("id").is_some_and(|known| *known == id));
    if let Some(text) = added.and_then(|token| token.get("content")?.as_str()) {
        return Some(text);
    }
    let vocab = tokenizer.get("model")?.get("vocab")?.as_object()?;
    vocab.iter().find(|&(_, known)| *known == id).map(|(text, _)| text.as_str())
}

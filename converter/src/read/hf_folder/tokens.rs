//! The special and added tokens that the files beside a `tokenizer.json` declare, as transformers 5 puts them together
//! (`PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`).
//!
//! `tokenizer_config.json` names tokens (`bos_token`, ... and any other key that ends in `_token`), lists more of them
//! (`extra_special_tokens`, in old files `additional_special_tokens`) and may describe all (`added_tokens_decoder`).
//! Only where it does not, `special_tokens_map.json` and `added_tokens.json` count.

use super::added::{Text, Token};
use super::ordered::{Fields, Ordered};
use crate::ConvertError;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
const EXTRA: &str = "extra_special_tokens";
/// The old name of `EXTRA`.
const ADDITIONAL: &str = "additional_special_tokens";
const SPECIFIC: &str = "model_specific_special_tokens";
const DECODER: &str = "added_tokens_decoder";
/// The names that every tokenizer has.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The class that rebuilds its tokenizer, and gives names where nobody else does.
const GPT2: [&str; 2] = ["GPT2Tokenizer", "GPT2TokenizerFast"];
/// Classes that take `tokenizer.json` as it is, and do not look at `add_prefix_space`.
const PLAIN: [&str; 4] =
    ["TokenizersBackend", "PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast"];

/// The JSON files about tokens.
pub(super) struct Files {
    /// tokenizer_config.json.
    pub(super) config: Fields,
    /// special_tokens_map.json.
    pub(super) map: Option<Fields>,
    /// added_tokens.json.
    pub(super) added: Option<Fields>,
    /// The tokenizer's class in config.json, for a tokenizer_config.json that names none.
    pub(super) class: Option<String>,
}

/// What the files declare.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Declared {
    /// The named tokens and their texts, in the order of transformers.
    pub(super) named: Vec<(String, String)>,
    /// Tokens to be added to those of tokenizer.json, in this order; most are there already.
    pub(super) add: Vec<Token>,
    /// Whether those of tokenizer.json that are not among them go.
    pub(super) anew: bool,
}

impl Declared {
    /// The text of a named token; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.named.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text)
    }

    /// Puts the declarations together. `tokenizer` is tokenizer.json.
    ///
    /// # Errors
    /// Values that transformers does not take either, and settings that the runtime has no code for.
    pub(super) fn new(files: Files, tokenizer: &Json) -> Result<Declared, ConvertError> {
        let Files { config: mut init, map, added, class } = files;
        let class = init.get("tokenizer_class").and_then(Ordered::text).map(str::to_owned).or(class);
        let class = class.unwrap_or_default();
        refuse_settings(&init, &class)?;
        let anew = GPT2.contains(&class.as_str());
        let there = of_tokenizer_json(tokenizer)?;

        let mut own = own_names(&mut init);
        let (decoder, place) = match init.take(DECODER) {
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
        for (name, value) in defaults(tokenizer, anew) {
            if init.get(name).is_none() {
                init.set(name.to_owned(), value);
            }
        }
        let named = named(&mut init, own, &decoder, place)?;
        let extra = extra(&mut init, place)?;

        let mut known: HashSet<String> = decoder.values().map(|token| token.content.clone()).collect();
        if !anew {
            known.extend(there.into_values().map(|token| token.content));
        }
        let mut add: Vec<Text> = decoder.into_values().map(Text::Token).collect();
        let mut seen = HashSet::new();
        for text in named.iter().map(|(_, text)| text).chain(&extra) {
            if !known.contains(text.content()) && seen.insert(text) {
                add.push(text.clone());
            }
        }
        let named_texts: HashSet<&str> = named.iter().map(|(_, text)| text.content()).collect();
        let special = |text: Text| match text {
            Text::Plain(content) => Token::special(content),
            Text::Token(token) => {
                let special = token.special || named_texts.contains(token.content.as_str());
                Token { special, ..token }
            }
        };
        let add = add.into_iter().map(special).collect();
        let named = named.iter().map(|(name, text)| (name.clone(), text.content().to_owned())).collect();
        Ok(Declared { named, add, anew })
    }
}

/// Takes the names of this model alone out of tokenizer_config.json, those that stand there as texts.
fn own_names(init: &mut Fields) -> Fields {
    if !init.get(EXTRA).is_some_and(is_true)
        && let Some(old) = init.take(ADDITIONAL)
    {
        init.set(EXTRA.to_owned(), old);
    }
    let mut own = Fields::default();
    let texts: Vec<String> = init
        .iter()
        .filter(|(name, value)| value.text().is_some() && is_own_name(name, value))
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in texts {
        if let Some(value) = init.take(&name) {
            own.set(name, value);
        }
    }
    move_extra(init, &mut own);
    if own.iter().next().is_none()
        && let Some(Ordered::Object(fields)) = init.take(SPECIFIC)
    {
        own = fields;
    }
    own
}

/// The tokens of `added_tokens_decoder` by id.
fn described_tokens(described: &Ordered) -> Result<BTreeMap<i64, Token>, ConvertError> {
    let wrong = || wrong(CONFIG, DECODER, "an object of tokens by id");
    let token = |(id, token): (&str, &Ordered)| {
        let id = id.trim().parse().map_err(|_| wrong())?;
        Ok((id, Token::parse(token, CONFIG, DECODER)?))
    };
    described.fields().ok_or_else(wrong)?.iter().map(token).collect()
}

/// Names that count where nobody gives them, not even as null.
fn defaults(tokenizer: &Json, gpt2: bool) -> Vec<(&'static str, Ordered)> {
    let end = "<|endoftext|>";
    let padding = tokenizer.get("padding").and_then(|padding| padding.get("pad_token"));
    match gpt2 {
        // A text that is no token would only add one.
        true if token_id(tokenizer, end).is_some() => {
            ["bos_token", "eos_token", "unk_token"].map(|name| (name, Ordered::Plain(end.into()))).into()
        }
        true => Vec::new(),
        false => padding.map(|text| ("pad_token", Ordered::Plain(text.clone()))).into_iter().collect(),
    }
}

/// All named tokens in the order of transformers: the usual names, then the model's own, objects before texts.
fn named(
    init: &mut Fields,
    own: Fields,
    decoder: &BTreeMap<i64, Token>,
    place: &'static str,
) -> Result<Vec<(String, Text)>, ConvertError> {
    let by_text: HashMap<&str, &Token> =
        decoder.values().map(|token| (token.content.as_str(), token)).collect();
    let mut named = Vec::new();
    for name in NAMES {
        if let Some(text) = init.take(name).filter(|value| !value.is_null()) {
            let text = Text::parse(&text, place, name)?;
            let described = by_text.get(text.content()).map(|&token| Text::Token(token.clone()));
            named.push((name.to_owned(), described.unwrap_or(text)));
        }
    }
    let mut all = Fields::default();
    let late: Vec<String> = init
        .iter()
        .filter(|(name, value)| is_own_name(name, value))
        .map(|(name, _)| name.to_owned())
        .collect();
    let late = late.into_iter().filter_map(|name| init.take(&name).map(|value| (name, value)));
    for (name, value) in late.chain(own) {
        all.set(name, value);
    }
    for (name, value) in all {
        let text = Text::parse(&value, place, &name)?;
        match named.iter_mut().take(NAMES.len()).find(|(known, _)| *known == name) {
            Some((_, usual)) => *usual = text,
            None => named.push((name, text)),
        }
    }
    Ok(named)
}

/// The listed tokens without a name.
fn extra(init: &mut Fields, place: &'static str) -> Result<Vec<Text>, ConvertError> {
    match init.take(EXTRA).or_else(|| init.take(ADDITIONAL)) {
        None => Ok(Vec::new()),
        Some(Ordered::Array(list)) => list.iter().map(|token| Text::parse(token, place, EXTRA)).collect(),
        Some(list) if list.is_null() => Ok(Vec::new()),
        Some(_) => Err(wrong(place, EXTRA, "a list of texts, or an object of texts by name")),
    }
}

/// Whether a key of tokenizer_config.json names a token of this model alone.
fn is_own_name(name: &str, value: &Ordered) -> bool {
    let text = value.text().is_some() || Token::is_typed(value);
    name.ends_with("_token") && !NAMES.contains(&name) && text
}

/// Moves `extra_special_tokens` to the named tokens, where it is an object.
fn move_extra(init: &mut Fields, specific: &mut Fields) {
    if init.get(EXTRA).is_some_and(|extra| extra.fields().is_some())
        && let Some(Ordered::Object(fields)) = init.take(EXTRA)
    {
        for (name, value) in fields {
            specific.set(name, value);
        }
    }
}

/// Puts what special_tokens_map.json says in the place of what tokenizer_config.json does.
fn merge(init: &mut Fields, map: Fields) -> Result<(), ConvertError> {
    for (name, value) in map {
        let value = match value {
            Ordered::Object(fields) if name != EXTRA => {
                let token = Token::parse(&Ordered::Object(fields), MAP, &name)?;
                Ordered::Token(Token { special: true, ..token })
            }
            Ordered::Array(list) if name == EXTRA => {
                let mut all = match init.take(EXTRA) {
                    Some(Ordered::Array(all)) => all,
                    _ => Vec::new(),
                };
                let mut seen: HashSet<String> =
                    all.iter().filter_map(Ordered::text).map(str::to_owned).collect();
                for token in list {
                    let token = match token {
                        Ordered::Object(_) => {
                            let token = Token::parse(&token, MAP, EXTRA)?;
                            Ordered::Token(Token { special: true, ..token })
                        }
                        other => other,
                    };
                    if token.text().is_none_or(|text| seen.insert(text.to_owned())) {
                        all.push(token);
                    }
                }
                Ordered::Array(all)
            }
            other => other,
        };
        init.set(name, value);
    }
    Ok(())
}

/// The tokens of added_tokens.json, ids by text; special where they are named or listed as such.
fn plain_added(added: Fields, init: &Fields) -> Result<Vec<(i64, Token)>, ConvertError> {
    let named = NAMES.iter().filter_map(|name| init.get(name));
    let listed = match init.get(EXTRA) {
        Some(Ordered::Array(list)) => list.as_slice(),
        _ => &[],
    };
    // Objects of tokenizer_config.json are not understood yet at this point.
    let content = |value: &Ordered| match value {
        Ordered::Token(token) => Some(token.content.clone()),
        other => other.text().map(str::to_owned),
    };
    let special: HashSet<String> = named.chain(listed).filter_map(content).collect();
    let token = |(content, id): (String, Ordered)| {
        let id = match &id {
            Ordered::Plain(Json::Number(id)) => id.as_i64(),
            _ => None,
        };
        let special = special.contains(&content);
        let id = id.ok_or_else(|| wrong(ADDED, &content, "an id"))?;
        Ok((id, Token { special, normalized: Some(!special), ..Token::special(content) }))
    };
    added.into_iter().map(token).collect()
}

/// The added tokens of tokenizer.json by id. Its shape is checked by whoever reads the vocabulary.
fn of_tokenizer_json(tokenizer: &Json) -> Result<BTreeMap<i64, Token>, ConvertError> {
    let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let token = |token: &Json| {
        let id = token.get("id").and_then(Json::as_i64);
        let id = id.ok_or_else(|| wrong("tokenizer.json", "added_tokens", "a list of tokens with ids"))?;
        let ordered = serde_json::from_value(token.clone());
        let ordered = ordered.map_err(|_| wrong("tokenizer.json", "added_tokens", "a list of tokens"))?;
        Ok((id, Token::parse(&ordered, "tokenizer.json", "added_tokens")?))
    };
    added.iter().map(token).collect()
}

/// Refuses settings that change ids and that the runtime has no code for.
fn refuse_settings(config: &Fields, class: &str) -> Result<(), ConvertError> {
    let ignored = PLAIN.contains(&class);
    for (key, ignored) in [("add_prefix_space", ignored), ("split_special_tokens", false)] {
        if !ignored && config.get(key).is_some_and(is_true) {
            return Err(ConvertError::Unsupported {
                what: format!("{CONFIG}: {key}"),
                found: "true".to_owned(),
                supported: "false: a text is cut as it stands, special tokens in it are whole",
            });
        }
    }
    Ok(())
}

/// What Python takes for true.
fn is_true(value: &Ordered) -> bool {
    match value {
        Ordered::Object(fields) => fields.iter().next().is_some(),
        Ordered::Array(items) => !items.is_empty(),
        Ordered::Token(_) => true,
        Ordered::Plain(Json::Bool(value)) => *value,
        Ordered::Plain(Json::String(text)) => !text.is_empty(),
        Ordered::Plain(Json::Number(number)) => number.as_f64() != Some(0.0),
        Ordered::Plain(_) => false,
    }
}

pub(super) fn wrong(place: &'static str, field: &str, expected: &'static str) -> ConvertError {
    ConvertError::Field { place, field: field.to_owned(), expected }
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

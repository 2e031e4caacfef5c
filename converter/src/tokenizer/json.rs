//! Reads `tokenizer.json`, as the `tokenizers` crate writes it.
//!
//! Every setting that changes ids is checked, and rejected if the runtime does not support it.

use super::alphabet::raw_bytes;
use super::component::{kind, refuse, steps};
use super::gguf::{bytes_in, find_merge, parse_merge};
use super::{AddedToken, TextStart, TokenizerError, Vocabulary, pattern};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use thimble_runtime::tokenizer::layout::MAX_TOKENS;

#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Spelled(String),
    Pair(String, String),
}

impl Vocabulary {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Anything but byte-level BPE with one of the patterns of [`thimble_runtime::tokenizer::Pattern`].
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<Vocabulary, TokenizerError> {
        let json: Json = serde_json::from_slice(bytes)?;
        check_model(&json.model)?;
        let nfc = is_nfc(&json.normalizer)?;
        let adds_bos = TextStart::of_post_processor(&json.post_processor)?.is_some();
        check_decoder(&json.decoder)?;
        let pattern = pattern::from_json(&json.pre_tokenizer)?;
        let whole_words = json.model.ignore_merges;

        let vocab = &json.model.vocab;
        let ids: HashMap<&str, u32> = vocab.iter().map(|(text, &id)| (text.as_str(), id)).collect();
        let added = json.added_tokens.iter().map(|token| (token.id, token.content.as_str()));
        let mut tokens = place(vocab.iter().map(|(text, &id)| (id, text.as_str())), added.clone())?;
        for (id, text) in added {
            tokens[id as usize] = text.as_bytes().to_vec();
        }
        let merges = json.model.merges.iter().filter(|merge| !merge.is_version()).enumerate();
        let merges = merges.map(|(rank, merge)| match merge {
            Merge::Spelled(merge) => parse_merge(rank, merge, &ids),
            Merge::Pair(left, right) => find_merge(rank, left, right, &ids),
        });
        let merges = merges.collect::<Result<_, _>>()?;
        let mut bytes = bytes_in(&ids);
        if let Some(unknown) = &json.model.unk_token
            && bytes.contains(&None)
        {
            let unknown = ids.get(unknown.as_str()).copied().filter(|_| !json.model.fuse_unk);
            let unsupported = || refuse("model.unk_token", "an unfused token of the vocabulary", "another");
            let unknown = unknown.ok_or_else(unsupported)?;
            bytes = bytes.map(|id| id.or(Some(unknown)));
        }
        let added = json.added_tokens.into_iter().map(checked_added).collect::<Result<_, _>>()?;
        Vocabulary { tokens, merges, added, bytes, pattern, whole_words, nfc, adds_bos }.check()
    }
}

impl Merge {
    /// Old files include the first line of `merges.txt`.
    fn is_version(&self) -> bool {
        matches!(self, Merge::Spelled(text) if text.starts_with("#version"))
    }
}

/// The bytes of every token at its id.
fn place<'j>(
    vocab: impl Iterator<Item = (u32, &'j str)>,
    added: impl Iterator<Item = (u32, &'j str)>,
) -> Result<Vec<Vec<u8>>, TokenizerError> {
    let mut by_id = BTreeMap::new();
    let mut by_text = HashMap::new();
    for (id, text) in vocab {
        if by_id.insert(id, text).is_some() {
            return Err(TokenizerError::DuplicateToken { text: text.to_owned(), id });
        }
        by_text.insert(text, id);
    }
    for (id, text) in added {
        let other_id = by_text.insert(text, id).filter(|&known| known != id);
        let other_text = by_id.insert(id, text).filter(|&known| known != text);
        let other = other_id.map(|id| id.to_string()).or_else(|| other_text.map(str::to_owned));
        if let Some(other) = other {
            return Err(TokenizerError::AddedId { text: text.to_owned(), id, other });
        }
    }
    let count = by_id.last_key_value().map_or(0, |(&last, _)| last as usize + 1);
    if count > MAX_TOKENS {
        return Err(TokenizerError::TooMany { what: "tokens", most: MAX_TOKENS, found: count });
    }
    let mut tokens = vec![Vec::new(); count];
    for (id, text) in by_id {
        tokens[id as usize] = raw_bytes(text);
    }
    Ok(tokens)
}

fn checked_added(token: AddedJson) -> Result<AddedToken, TokenizerError> {
    let flags = [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)];
    if let Some((flag, _)) = flags.into_iter().find(|&(_, set)| set) {
        let found = format!("true ({flag} of {:?})", token.content);
        return Err(refuse("lstrip, rstrip or single_word of an added token", "false", found));
    }
    let AddedJson { id, content, normalized, special, .. } = token;
    Ok(AddedToken { id, text: content, special, normalized })
}

fn check_model(model: &Model) -> Result<(), TokenizerError> {
    // Old files omit the type; the fields tell it.
    if let Some(kind) = model.kind.as_deref().filter(|&kind| kind != "BPE") {
        return Err(refuse("model.type", "BPE", kind));
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return Err(refuse("model.dropout", "null", dropout.to_string()));
    }
    let texts = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (part, text) in texts {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            return Err(refuse(part, "null", format!("{text:?}")));
        }
    }
    match model.byte_fallback {
        true => Err(refuse("model.byte_fallback", "false", "true")),
        false => Ok(()),
    }
}

/// Whether the normalizer is NFC; otherwise there is none.
fn is_nfc(normalizer: &Value) -> Result<bool, TokenizerError> {
    match steps(normalizer, "normalizers").as_slice() {
        [] => Ok(false),
        [step] if kind(step) == "NFC" => Ok(true),
        [step, ..] => Err(refuse("normalizer", "null or NFC", kind(step))),
    }
}

fn check_decoder(decoder: &Value) -> Result<(), TokenizerError> {
    match steps(decoder, "decoders").into_iter().find(|step| kind(step) != "ByteLevel") {
        Some(step) => Err(refuse("decoder", "ByteLevel", kind(step))),
        None => Ok(()),
    }
}

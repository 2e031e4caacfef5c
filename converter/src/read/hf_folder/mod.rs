//! Opens a Hugging Face model folder as a [`SourceModel`].

mod added;
mod added_token;
mod ordered;
mod token_spec;
mod tokens;
mod weights;

use super::names::{
    ADDED_TOKENS, CHAT_TEMPLATE, CONFIG_JSON, GENERATION_CONFIG, MODEL_CARD, SPECIAL_TOKENS_MAP,
    TOKENIZER_CONFIG, TOKENIZER_JSON,
};
use super::source_model::add_stop;
use super::tensor::{match_tensors, reject_unknown};
use super::{Origin, SourceModel, TokenizerSource, json, safetensors};
use crate::ConvertError;
use crate::config::{Family, read_config_json, token_ids};
use crate::tokenizer::TextStart;
use added::ExtendedTokenizer;
use ordered::{Fields, OrderedJson};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, TensorRole};
use tokens::{DeclaredTokens, TokenFiles, token_id, token_text};

/// Opens a folder; `weights` is the safetensors file to use, if the caller chose one.
pub(super) fn open(folder: &Path, weights: Option<&Path>) -> Result<SourceModel, ConvertError> {
    let config_path = folder.join(CONFIG_JSON);
    if !config_path.is_file() {
        return Err(ConvertError::NotAModel { path: folder.to_owned() });
    }
    let config_json: Json = json::read(&config_path)?;
    let (files, found) = safetensors::open(folder, weights)?;
    let mut found = weights::rename(found)?;
    let mut notes = Vec::new();
    let (family, mut config) = read_config_json(&config_json)?;
    config.tied = weights::resolve_head(config.tied, &mut found, &files, &mut notes)?;
    weights::check_rows(&config, &found)?;
    let model = without_weights(folder, &config_json, (family, config), notes)?;
    let tensors = match_tensors(&model.config, &mut found, TensorRole::hugging_face, false)?;
    reject_unknown(&found, family)?;
    Ok(SourceModel { tensors, files, ..model })
}

/// Opens a folder whose weights are not there yet: a model without tensors.
pub(super) fn open_without_weights(folder: &Path) -> Result<SourceModel, ConvertError> {
    let config_json: Json = json::read(&folder.join(CONFIG_JSON))?;
    without_weights(folder, &config_json, read_config_json(&config_json)?, Vec::new())
}

/// Everything but the tensors: the tokenizer, the special tokens and the chat template.
fn without_weights(
    folder: &Path,
    config_json: &Json,
    (family, mut config): (Family, Config),
    mut notes: Vec<String>,
) -> Result<SourceModel, ConvertError> {
    let tokenizer_path = folder.join(TOKENIZER_JSON);
    let mut tokenizer = json::bytes(&tokenizer_path)?;
    let mut tokenizer_json: Json = json::parse(&tokenizer_path, &tokenizer)?;
    let texts = read_fields(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default();
    let chat_template = chat_template(folder, texts.get("chat_template"))?;
    let class = config_json.get("tokenizer_class").and_then(Json::as_str).map(str::to_owned);
    let declared = TokenFiles {
        config: texts,
        map: read_fields(&folder.join(SPECIAL_TOKENS_MAP))?,
        added: read_fields(&folder.join(ADDED_TOKENS))?,
        class,
    };
    let declared = DeclaredTokens::new(declared, &tokenizer_json)?;
    if let Some(ExtendedTokenizer { bytes, without_row }) =
        added::add(&tokenizer_json, &declared, config.vocab)?
    {
        tokenizer_json = json::parse(&tokenizer_path, &bytes)?;
        tokenizer = bytes;
        notes.extend(without_row.into_iter().map(|(id, text)| {
            format!("the token {text:?} left out: its id {id} has no row in the embedding")
        }));
    }

    let generation: Json = json::read_optional(&folder.join(GENERATION_CONFIG))?.unwrap_or(Json::Null);
    for id in token_ids(&generation, GENERATION_CONFIG, "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    let named = |name: &str| token_id(&tokenizer_json, declared.text(name));
    if let Some(id) = named("eos_token") {
        add_stop(&mut config, id)?;
    }
    if config.bos.is_none() {
        config.bos = named("bos_token").map(Token);
    }
    if let Some(start) = TextStart::of_tokenizer_json(&tokenizer_json)? {
        let known = [config.bos, named("bos_token").map(Token)];
        config.bos = Some(text_start(&start, known, &tokenizer_json, &mut notes)?);
    }
    config.check()?;
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let source = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let model = config_json.get("_name_or_path").and_then(Json::as_str).filter(|name| !name.is_empty());
    let origin = Origin {
        name: model.map(str::to_owned).or_else(|| Some(source.clone())),
        licence: licence(folder),
        source,
        container: "safetensors",
        architecture: family.class().to_owned(),
        sampling: RecommendedSampling::read(&generation),
    };
    Ok(SourceModel {
        merged: HashMap::new(),
        config,
        origin,
        unknown: named("unk_token").map(Token),
        padding: named("pad_token").map(Token),
        bos_text: declared.text("bos_token").to_owned(),
        eos_text: declared.text("eos_token").to_owned(),
        named_tokens: declared.named,
        tokenizer: TokenizerSource::Json(tokenizer),
        chat_template,
        notes,
        tensors: Vec::new(),
        files: Vec::new(),
    })
}

/// The begin-of-text token of a tokenizer that puts `start` in front of each text. It must be the model's `bos_token_id` or the
/// tokenizer's `bos_token`, if there are any. Where the two differ, as in some checkpoints, what the tokenizer adds decides.
fn text_start(
    start: &TextStart,
    [configured, declared]: [Option<Token>; 2],
    tokenizer: &Json,
    notes: &mut Vec<String>,
) -> Result<Token, ConvertError> {
    let (added, name) = (Token(start.id), &start.name);
    let Some(bos) = configured.or(declared).filter(|&bos| bos != added) else { return Ok(added) };
    let text = token_text(tokenizer, bos.0).unwrap_or_default();
    if declared != Some(added) {
        let found = format!("one that adds {name:?}, where the begin-of-text token is {text:?}");
        let supported = "one that adds the begin-of-text token";
        return Err(ConvertError::unsupported("tokenizer.json: post_processor", found, supported));
    }
    notes.push(format!("begin-of-text token {name:?}, as the tokenizer adds it; config.json has {text:?}"));
    Ok(added)
}

/// The chat template: `chat_template.jinja`, or the one in tokenizer_config.json (of several, the one named `default`).
fn chat_template(folder: &Path, given: Option<&OrderedJson>) -> Result<Option<String>, ConvertError> {
    let path = folder.join(CHAT_TEMPLATE);
    if path.is_file() {
        let wrong = |e| ConvertError::read(&path)(io::Error::other(e));
        return String::from_utf8(json::bytes(&path)?).map(Some).map_err(wrong);
    }
    let is_default = |template: &&OrderedJson| {
        let name = template.fields().and_then(|fields| fields.get("name"));
        name.and_then(OrderedJson::text) == Some("default")
    };
    let template = match given {
        Some(OrderedJson::Array(list)) => {
            let default = list.iter().find(is_default);
            default.and_then(|template| template.fields()?.get("template"))
        }
        Some(OrderedJson::Object(by_name)) => by_name.get("default"),
        other => other,
    };
    Ok(template.and_then(OrderedJson::text).map(str::to_owned))
}

/// The licence in the front matter of the model card, if there is one.
fn licence(folder: &Path) -> Option<String> {
    let card = fs::read_to_string(folder.join(MODEL_CARD)).ok()?;
    let front = card.strip_prefix("---")?.split("\n---").next()?;
    let value = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Reads a JSON object; `None` if there is no such file.
fn read_fields(path: &Path) -> Result<Option<Fields>, ConvertError> {
    match json::read_optional(path)? {
        None => Ok(None),
        Some(OrderedJson::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(ConvertError::read(path)(io::Error::other("expected a JSON object"))),
    }
}

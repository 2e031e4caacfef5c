//! A folder in the layout of the Hugging Face hub as a [`SourceModel`].

mod added;
mod config;
mod ordered;
mod rope;
mod tokens;
mod weights;

pub use rope::rope_theta;

use super::source_model::{add_stop, place, refuse_rest};
use super::{Origin, SourceModel, TokenizerSource, safetensors};
use crate::ConvertError;
use added::Changed;
use ordered::{Fields, Ordered};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::fs;
use std::io;
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_runtime::Token;
use thimble_runtime::format::TensorRole;
use tokens::{Declared, Files, token_id};

/// Largest JSON file that is read.
const MOST_JSON: u64 = 1 << 28;

/// Opens a folder; `weights` names its only safetensors file, if the caller chose one.
pub(super) fn open(folder: &Path, weights: Option<&Path>) -> Result<SourceModel, ConvertError> {
    let config_path = folder.join(config::PLACE);
    if !config_path.is_file() {
        return Err(ConvertError::NotAModel { path: folder.to_owned() });
    }
    let json: Json = read_json(&config_path)?;
    let (files, found) = safetensors::open(folder, weights)?;
    let mut found = weights::rename(found)?;
    let mut notes = Vec::new();
    let tied = weights::settle_head(config::tied(&json)?, &mut found, &files, &mut notes)?;
    let mut config = config::config(&json, &found, tied)?;

    let tokenizer_path = folder.join("tokenizer.json");
    let mut tokenizer = read(&tokenizer_path)?;
    let mut tokenizer_json: Json = parse(&tokenizer_path, &tokenizer)?;
    let texts = read_fields(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let chat_template = chat_template(folder, texts.get("chat_template"))?;
    let class = json.get("tokenizer_class").and_then(Json::as_str).map(str::to_owned);
    let declared = Files {
        config: texts,
        map: read_fields(&folder.join("special_tokens_map.json"))?,
        added: read_fields(&folder.join("added_tokens.json"))?,
        class,
    };
    let declared = Declared::new(declared, &tokenizer_json)?;
    if let Some(Changed { bytes, without_row }) = added::add(&tokenizer_json, &declared, config.vocab)? {
        tokenizer_json = parse(&tokenizer_path, &bytes)?;
        tokenizer = bytes;
        notes.extend(without_row.into_iter().map(|(id, text)| {
            format!("the token {text:?} left out: its id {id} has no row in the embedding")
        }));
    }

    let generation: Json = read_optional_json(&folder.join("generation_config.json"))?.unwrap_or(Json::Null);
    for id in config::token_ids(&generation, "generation_config.json", "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    let named = |name: &str| token_id(&tokenizer_json, declared.text(name));
    if let Some(id) = named("eos_token") {
        add_stop(&mut config, id)?;
    }
    if config.bos.is_none() {
        config.bos = named("bos_token").map(Token);
    }
    config.check()?;
    let tensors = place(&config, &mut found, tensor_name, false)?;
    refuse_rest(&found)?;
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let source = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let model = json.get("_name_or_path").and_then(Json::as_str).filter(|name| !name.is_empty());
    let origin = Origin {
        name: model.map(str::to_owned).or_else(|| Some(source.clone())),
        licence: licence(folder),
        source,
        container: "safetensors",
        architecture: "LlamaForCausalLM".to_owned(),
        sampling: RecommendedSampling::read(&generation),
    };
    Ok(SourceModel {
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
        tensors,
        files,
    })
}

/// The chat template: `chat_template.jinja`, or the text (or the one named `default`) in tokenizer_config.json.
fn chat_template(folder: &Path, given: Option<&Ordered>) -> Result<Option<String>, ConvertError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        let wrong = |e| ConvertError::Read { path: path.clone(), source: io::Error::other(e) };
        return String::from_utf8(read(&path)?).map(Some).map_err(wrong);
    }
    let is_default = |template: &&Ordered| {
        let name = template.fields().and_then(|fields| fields.get("name"));
        name.and_then(Ordered::text) == Some("default")
    };
    let template = match given {
        Some(Ordered::Array(list)) => {
            let default = list.iter().find(is_default);
            default.and_then(|template| template.fields()?.get("template"))
        }
        Some(Ordered::Object(by_name)) => by_name.get("default"),
        other => other,
    };
    Ok(template.and_then(Ordered::text).map(str::to_owned))
}

/// The licence in the front matter of the model card, if there is one.
fn licence(folder: &Path) -> Option<String> {
    let card = fs::read_to_string(folder.join("README.md")).ok()?;
    let front = card.strip_prefix("---")?.split("\n---").next()?;
    let value = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Hugging Face's name of a tensor.
pub(crate) fn tensor_name(role: TensorRole, layer: u16) -> String {
    let part = match role {
        TensorRole::Embedding => return "model.embed_tokens.weight".to_owned(),
        TensorRole::FinalNorm => return "model.norm.weight".to_owned(),
        TensorRole::Head => return "lm_head.weight".to_owned(),
        TensorRole::AttentionNorm => "input_layernorm",
        TensorRole::Query => "self_attn.q_proj",
        TensorRole::Key => "self_attn.k_proj",
        TensorRole::Value => "self_attn.v_proj",
        TensorRole::Output => "self_attn.o_proj",
        TensorRole::FfnNorm => "post_attention_layernorm",
        TensorRole::Gate => "mlp.gate_proj",
        TensorRole::Up => "mlp.up_proj",
        TensorRole::Down => "mlp.down_proj",
    };
    format!("model.layers.{layer}.{part}.weight")
}

fn read(path: &Path) -> Result<Vec<u8>, ConvertError> {
    let fail = |source| ConvertError::Read { path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(fail)?.len();
    if len > MOST_JSON {
        return Err(fail(io::Error::other(format!("{len} bytes, at most {MOST_JSON} are read"))));
    }
    fs::read(path).map_err(fail)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConvertError> {
    serde_json::from_slice(bytes).map_err(|source| ConvertError::Json { path: path.to_owned(), source })
}

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConvertError> {
    parse(path, &read(path)?)
}

fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConvertError> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}

/// Reads a JSON file that holds an object, if it is there.
fn read_fields(path: &Path) -> Result<Option<Fields>, ConvertError> {
    let wrong =
        || ConvertError::Read { path: path.to_owned(), source: io::Error::other("expected a JSON object") };
    match read_optional_json(path)? {
        None => Ok(None),
        Some(Ordered::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(wrong()),
    }
}

//! A folder in the layout of the Hugging Face hub as a [`Checkpoint`].

use super::checkpoint::{Found, add_stop, place, refuse_rest};
use super::{Checkpoint, Origin, TokenizerSource, safetensors};
use crate::ConvertError;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, Role};

const PLACE: &str = "config.json";
/// Largest JSON file that is read.
const MOST_JSON: u64 = 1 << 28;

/// Opens a folder; `weights` names its only safetensors file, if the caller chose one.
pub(super) fn open(folder: &Path, weights: Option<&Path>) -> Result<Checkpoint, ConvertError> {
    let config_path = folder.join(PLACE);
    if !config_path.is_file() {
        return Err(ConvertError::NotAModel { path: folder.to_owned() });
    }
    let json = read_json(&config_path)?;
    let (files, mut found) = safetensors::open(folder, weights)?;
    let mut config = config(&json, &found)?;
    let tokenizer_path = folder.join("tokenizer.json");
    let tokenizer = read(&tokenizer_path)?;
    let texts = read_optional_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Json::Null);
    let tokenizer_json = parse(&tokenizer_path, &tokenizer)?;
    let generation = read_optional_json(&folder.join("generation_config.json"))?.unwrap_or(Json::Null);
    for id in token_ids(&generation, "generation_config.json", "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    let (bos_text, eos_text) = (special(&texts, "bos_token"), special(&texts, "eos_token"));
    if let Some(id) = token_id(&tokenizer_json, &eos_text) {
        add_stop(&mut config, id)?;
    }
    if config.bos.is_none() {
        config.bos = token_id(&tokenizer_json, &bos_text).map(Token);
    }
    config.check()?;
    let mut notes = Vec::new();
    if config.tied && found.remove(&tensor_name(Role::Head, Role::NO_LAYER)).is_some() {
        notes.push("lm_head.weight left out: config.json ties the head to the embedding".to_owned());
    }
    let tensors = place(&config, &mut found, tensor_name, false)?;
    refuse_rest(&found)?;
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let source = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = json.get("_name_or_path").and_then(Json::as_str).filter(|name| !name.is_empty());
    let origin = Origin {
        name: named.map(str::to_owned).or_else(|| Some(source.clone())),
        licence: licence(folder),
        source,
        container: "safetensors",
        architecture: "LlamaForCausalLM".to_owned(),
    };
    let chat_template = chat_template(folder, &texts)?;
    let tokenizer = TokenizerSource::Json(tokenizer);
    let named = |key| token_id(&tokenizer_json, &special(&texts, key)).map(Token);
    Ok(Checkpoint {
        config,
        origin,
        tokenizer,
        chat_template,
        unknown: named("unk_token"),
        padding: named("pad_token"),
        bos_text,
        eos_text,
        notes,
        tensors,
        files,
    })
}

fn config(json: &Json, found: &BTreeMap<String, Found>) -> Result<Config, ConvertError> {
    refuse_variants(json)?;
    let size = |key: &str| -> Result<Option<usize>, ConvertError> {
        match json.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(field(key, "a whole number")),
            },
        }
    };
    let need = |key: &str| size(key)?.ok_or_else(|| field(key, "a whole number"));
    let (hidden, heads) = (need("hidden_size")?, need("num_attention_heads")?);
    let head_dim = size("head_dim")?.or(hidden.checked_div(heads)).unwrap_or(0);
    let eps = json.get("rms_norm_eps").map_or(Some(1e-6), Json::as_f64);
    let tied = match json.get("tie_word_embeddings") {
        // The default of LlamaConfig.
        None | Some(Json::Null) => false,
        Some(tied) => tied.as_bool().ok_or_else(|| field("tie_word_embeddings", "true or false"))?,
    };
    let vocab = need("vocab_size")?;
    let rows = found.get(&tensor_name(Role::Embedding, Role::NO_LAYER)).and_then(|t| t.shape.first());
    if let Some(&rows) = rows
        && rows != vocab as u64
    {
        let name = tensor_name(Role::Embedding, Role::NO_LAYER);
        return Err(ConvertError::Shape {
            name,
            expected: vec![vocab as u64, hidden as u64],
            found: vec![rows, hidden as u64],
        });
    }
    let mut config = Config {
        hidden,
        layers: need("num_hidden_layers")?,
        heads,
        kv_heads: size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        ffn: need("intermediate_size")?,
        vocab,
        context: need("max_position_embeddings")?,
        rope_theta: rope_theta(json)? as f32,
        norm_eps: eps.ok_or_else(|| field("rms_norm_eps", "a number"))? as f32,
        tied,
        bos: token_ids(json, PLACE, "bos_token_id")?.first().copied().map(Token),
        stop: [None; Config::MOST_STOPS],
    };
    for id in token_ids(json, PLACE, "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    Ok(config)
}

/// Refuses other architectures and what changes the arithmetic of a Llama model.
fn refuse_variants(json: &Json) -> Result<(), ConvertError> {
    let llama = "LlamaForCausalLM";
    match json.get("architectures").and_then(Json::as_array).map(Vec::as_slice) {
        Some([Json::String(name)]) if name == llama => {}
        None if json.get("model_type").is_some() => {}
        found => {
            let found = found.map_or("missing".to_owned(), |names| Json::from(names.to_vec()).to_string());
            return Err(unsupported("architectures", found, llama));
        }
    }
    let must_be = |key: &str, supported: &'static str, fits: &dyn Fn(&Json) -> bool| match json.get(key) {
        None | Some(Json::Null) => Ok(()),
        Some(value) if fits(value) => Ok(()),
        Some(value) => Err(unsupported(key, value.to_string(), supported)),
    };
    must_be("model_type", "\"llama\"", &|v| v == "llama")?;
    must_be("hidden_act", "\"silu\"", &|v| v == "silu")?;
    must_be("attention_bias", "false", &|v| v == &Json::Bool(false))?;
    must_be("mlp_bias", "false", &|v| v == &Json::Bool(false))?;
    must_be("quantization_config", "unquantized weights", &|_| false)?;
    must_be("partial_rotary_factor", "1", &|v| v.as_f64() == Some(1.0))?;
    must_be("rope_interleaved", "false", &|v| v == &Json::Bool(false))?;
    must_be("sliding_window", "null", &|_| false)?;
    for key in ["rope_scaling", "rope_parameters"] {
        must_be(key, "no scaling (type \"default\")", &|v| plain_rope(v))?;
    }
    Ok(())
}

/// Whether a `rope_scaling` or `rope_parameters` object leaves the frequencies alone.
fn plain_rope(value: &Json) -> bool {
    let kind = |key: &str| value.get(key).is_none_or(|kind| kind == "default" || kind.is_null());
    let Some(object) = value.as_object() else { return false };
    let known = ["rope_type", "type", "rope_theta", "factor", "partial_rotary_factor"];
    kind("rope_type")
        && kind("type")
        && object.keys().all(|key| known.contains(&key.as_str()))
        && ["factor", "partial_rotary_factor"]
            .iter()
            .all(|key| value.get(key).is_none_or(|f| f.as_f64() == Some(1.0)))
}

fn rope_theta(json: &Json) -> Result<f64, ConvertError> {
    let newer = json.get("rope_parameters").and_then(|r| r.get("rope_theta"));
    match newer.or(json.get("rope_theta")) {
        None | Some(Json::Null) => Ok(10_000.0),
        Some(theta) => theta.as_f64().ok_or_else(|| field("rope_theta", "a number")),
    }
}

/// The chat template: `chat_template.jinja`, or the text (or the one named `default`) in tokenizer_config.json.
fn chat_template(folder: &Path, texts: &Json) -> Result<Option<String>, ConvertError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        let wrong = |e| ConvertError::Read { path: path.clone(), source: io::Error::other(e) };
        return String::from_utf8(read(&path)?).map(Some).map_err(wrong);
    }
    let template = match texts.get("chat_template") {
        Some(Json::Array(named)) => {
            let default = named.iter().find(|t| t.get("name").is_some_and(|name| name == "default"));
            default.and_then(|t| t.get("template"))
        }
        other => other,
    };
    Ok(template.and_then(Json::as_str).map(str::to_owned))
}

/// One token id or a list of them.
fn token_ids(json: &Json, place: &'static str, key: &str) -> Result<Vec<u32>, ConvertError> {
    let wrong =
        || ConvertError::Field { place, field: key.to_owned(), expected: "a token id or a list of them" };
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    match json.get(key) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// The text of a special token in tokenizer_config.json: a string, or an object with `content`.
fn special(texts: &Json, key: &str) -> String {
    let value = texts.get(key).unwrap_or(&Json::Null);
    value.as_str().or_else(|| value.get("content")?.as_str()).unwrap_or_default().to_owned()
}

/// The id of a token in tokenizer.json, by its text.
fn token_id(tokenizer: &Json, text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let added = tokenizer.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let added = added.iter().find(|t| t.get("content").is_some_and(|c| c == text)).and_then(|t| t.get("id"));
    let id = added.or_else(|| tokenizer.get("model")?.get("vocab")?.get(text))?;
    u32::try_from(id.as_u64()?).ok()
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
pub(crate) fn tensor_name(role: Role, layer: u16) -> String {
    let part = match role {
        Role::Embedding => return "model.embed_tokens.weight".to_owned(),
        Role::FinalNorm => return "model.norm.weight".to_owned(),
        Role::Head => return "lm_head.weight".to_owned(),
        Role::AttentionNorm => "input_layernorm",
        Role::Query => "self_attn.q_proj",
        Role::Key => "self_attn.k_proj",
        Role::Value => "self_attn.v_proj",
        Role::Output => "self_attn.o_proj",
        Role::FfnNorm => "post_attention_layernorm",
        Role::Gate => "mlp.gate_proj",
        Role::Up => "mlp.up_proj",
        Role::Down => "mlp.down_proj",
    };
    format!("model.layers.{layer}.{part}.weight")
}

fn unsupported(what: &str, found: String, supported: &'static str) -> ConvertError {
    ConvertError::Unsupported { what: format!("{PLACE}: {what}"), found, supported }
}

fn field(key: &str, expected: &'static str) -> ConvertError {
    ConvertError::Field { place: PLACE, field: key.to_owned(), expected }
}

fn read(path: &Path) -> Result<Vec<u8>, ConvertError> {
    let fail = |source| ConvertError::Read { path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(fail)?.len();
    if len > MOST_JSON {
        return Err(fail(io::Error::other(format!("{len} bytes, at most {MOST_JSON} are read"))));
    }
    fs::read(path).map_err(fail)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Json, ConvertError> {
    serde_json::from_slice(bytes).map_err(|source| ConvertError::Json { path: path.to_owned(), source })
}

/// Reads a JSON file.
pub(super) fn read_json(path: &Path) -> Result<Json, ConvertError> {
    parse(path, &read(path)?)
}

fn read_optional_json(path: &Path) -> Result<Option<Json>, ConvertError> {
    if path.is_file() { read_json(path).map(Some) } else { Ok(None) }
}

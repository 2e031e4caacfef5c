//! Reads `config.json` of a Llama model.

use super::rope::rope_theta;
use crate::ConvertError;
use crate::read::names::CONFIG_JSON;
use crate::read::source_model::add_stop;
use crate::read::tensor::RawTensor;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, RopeParameters, TensorRole};

/// The configuration, without what only the tokenizer's files define.
pub(super) fn config(
    json: &Json,
    found: &BTreeMap<String, RawTensor>,
    tied: bool,
) -> Result<Config, ConvertError> {
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
    let vocab = need("vocab_size")?;
    let name = TensorRole::Embedding.hugging_face(TensorRole::NO_LAYER).to_string();
    if let Some(embedding) = found.get(&name)
        && embedding.shape.first() != Some(&(vocab as u64))
    {
        let expected = vec![vocab as u64, hidden as u64];
        return Err(ConvertError::Shape { name, expected, found: embedding.shape.clone() });
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
        rope: RopeParameters::new(rope_theta(json)? as f32),
        norm_eps: eps.ok_or_else(|| field("rms_norm_eps", "a number"))? as f32,
        tied,
        bos: token_ids(json, CONFIG_JSON, "bos_token_id")?.first().copied().map(Token),
        ..Config::PLAIN
    };
    for id in token_ids(json, CONFIG_JSON, "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    Ok(config)
}

/// Whether the configuration ties the head to the embedding.
pub(super) fn tied(json: &Json) -> Result<bool, ConvertError> {
    match json.get("tie_word_embeddings") {
        // The default of LlamaConfig.
        None | Some(Json::Null) => Ok(false),
        Some(tied) => tied.as_bool().ok_or_else(|| field("tie_word_embeddings", "true or false")),
    }
}

/// Rejects other architectures and unsupported variants of Llama.
fn refuse_variants(json: &Json) -> Result<(), ConvertError> {
    // A bare LlamaModel has no head; its embedding is the head if the configuration ties them.
    let llama = ["LlamaForCausalLM", "LlamaModel"];
    match json.get("architectures").filter(|names| !names.is_null()) {
        Some(Json::Array(names)) => match names.as_slice() {
            [Json::String(name)] if llama.contains(&name.as_str()) => {}
            [] if json.get("model_type").is_some() => {}
            _ => {
                let found = Json::from(names.clone()).to_string();
                return Err(unsupported("architectures", found, "LlamaForCausalLM, LlamaModel"));
            }
        },
        None if json.get("model_type").is_some() => {}
        found => {
            let found = found.map_or("missing".to_owned(), Json::to_string);
            return Err(unsupported("architectures", found, "LlamaForCausalLM, LlamaModel"));
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
    let full = |v: &Json| v.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention"));
    must_be("layer_types", "\"full_attention\" for every layer", &full)
}

/// One token id or a list of them.
pub(super) fn token_ids(json: &Json, place: &'static str, key: &str) -> Result<Vec<u32>, ConvertError> {
    let wrong = || ConvertError::field(place, key, "a token id or a list of them");
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    match json.get(key) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

fn unsupported(key: &str, found: String, supported: &'static str) -> ConvertError {
    ConvertError::unsupported(format!("{CONFIG_JSON}: {key}"), found, supported)
}

fn field(key: &str, expected: &'static str) -> ConvertError {
    ConvertError::field(CONFIG_JSON, key, expected)
}

//! `config.json`, as transformers 4 and 5 read it and as both load what is written here.

use super::family::{CLASSES, Family, MODEL_TYPES};
use super::fields::{Fields, PLACE, check, in_range, shortest, token_ids};
use super::{options, rope};
use crate::ConvertError;
use crate::read::add_stop;
use serde_json::{Map, Value as Json, json};
use thimble_runtime::Token;
use thimble_runtime::format::Config;

/// The family and configuration in a `config.json`. It may tie the head and yet come with one: the weights decide.
///
/// # Errors
/// Another architecture, an unsupported variant of a known one, or an invalid field; each by name.
pub fn read_config_json(json: &Json) -> Result<(Family, Config), ConvertError> {
    let fields = Fields::new(json);
    let family = family(&fields)?;
    options::refuse_json(&fields, family)?;
    let (hidden, heads) = (fields.need_size("hidden_size")?, fields.need_size("num_attention_heads")?);
    let head_dim = fields.size("head_dim")?;
    // Without the key, the class's default; null means as many as query heads.
    let kv_heads = match json.get("num_key_value_heads") {
        Some(_) => heads,
        None => family.default_kv_heads().unwrap_or(heads),
    };
    let context = fields.need_size("max_position_embeddings")?;
    let eps = fields.number("rms_norm_eps")?.unwrap_or(1e-6);
    let mut config = Config {
        hidden,
        layers: fields.need_size("num_hidden_layers")?,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(kv_heads),
        head_dim: head_dim.or(family.default_head_dim()).unwrap_or(hidden.checked_div(heads).unwrap_or(0)),
        ffn: fields.need_size("intermediate_size")?,
        vocab: fields.need_size("vocab_size")?,
        context,
        rope: rope::read_json(&fields, family.default_theta(), context)?,
        norm_eps: in_range(format!("{PLACE}: rms_norm_eps"), eps, 1e-30..=0.999_999, "between 0 and 1")?,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(family == Family::SmolLm3),
        qkv_bias: family == Family::Qwen2,
        qk_norm: family == Family::Qwen3,
        bos: token_ids(json, PLACE, "bos_token_id")?.first().copied().map(Token),
        ..Config::PLAIN
    };
    for id in token_ids(json, PLACE, "eos_token_id")? {
        add_stop(&mut config, id)?;
    }
    // Bounds the number of layers before the pattern.
    check(&config, PLACE)?;
    options::read_json(&fields, family, &mut config)?;
    check(&config, PLACE)?;
    Ok((family, config))
}

/// The family that `architectures` and `model_type` name.
fn family(fields: &Fields<'_>) -> Result<Family, ConvertError> {
    let kind = match fields.get("model_type") {
        None => None,
        Some(value) => {
            let named = |name: &&str| Family::ALL.into_iter().find(|family| family.model_type() == *name);
            let found = value.as_str().as_ref().and_then(named);
            Some(found.ok_or_else(|| fields.refuse("model_type", value, MODEL_TYPES))?)
        }
    };
    let key = "architectures";
    let names = match (fields.get(key), kind) {
        (None, Some(kind)) => return Ok(kind),
        (Some(Json::Array(names)), Some(kind)) if names.is_empty() => return Ok(kind),
        (Some(Json::Array(names)), _) => names,
        (found, _) => {
            return Err(fields.refuse(key, found.map_or("missing".to_owned(), Json::to_string), CLASSES));
        }
    };
    let class = match names.as_slice() {
        [Json::String(name)] if name.starts_with(char::is_uppercase) => Family::named(name),
        _ => None,
    };
    let found = Json::from(names.clone());
    let class = class.ok_or_else(|| fields.refuse(key, &found, CLASSES))?;
    match kind {
        Some(kind) if kind != class => {
            let found = format!("{found} with model_type \"{}\"", kind.model_type());
            Err(fields.refuse(
                key,
                found,
                "a class of that model_type: LlamaForCausalLM with llama and so on",
            ))
        }
        _ => Ok(class),
    }
}

/// The `config.json` of a model; a caller may add fields of its own, such as `torch_dtype`.
///
/// # Errors
/// The family does not describe the configuration.
pub fn config_json(family: Family, config: &Config) -> Result<Map<String, Json>, ConvertError> {
    if !family.describes(config) {
        let found = format!("{:?}", family);
        return Err(ConvertError::unsupported("the family of the model", found, "one that has its options"));
    }
    let stops: Vec<u32> = config.stop.iter().flatten().map(|token| token.0).collect();
    let (theta, scaling) = rope::write_json(&config.rope);
    let json = json!({
        "architectures": [family.class()],
        "attention_dropout": 0.0,
        "bos_token_id": config.bos.map(|token| token.0),
        "eos_token_id": match stops.as_slice() {
            [] => Json::Null,
            [one] => json!(one),
            several => json!(several),
        },
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.context,
        "model_type": family.model_type(),
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": shortest(config.norm_eps),
        "rope_scaling": scaling,
        "rope_theta": theta,
        "tie_word_embeddings": config.tied,
        "use_cache": true,
        "vocab_size": config.vocab,
    });
    let Json::Object(mut json) = json else { return Ok(Map::new()) };
    json.extend(options::write_json(family, config));
    Ok(json)
}

//! `config.json`, as transformers 4 and 5 read it and as both load what is written here.

use super::family::{CLASSES, Family, MODEL_TYPES};
use super::fields::{Fields, PLACE, in_range, shortest, token_ids};
use super::rope;
use crate::ConvertError;
use crate::read::add_stop;
use serde_json::{Map, Value as Json, json};
use thimble_runtime::Token;
use thimble_runtime::format::{Config, FormatError, LayerPattern};

/// The names of layers without and with a sliding window.
const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];

/// The family and configuration in a `config.json`. It may tie the head and yet come with one: the weights decide.
///
/// # Errors
/// Another architecture, an unsupported variant of a known one, or an invalid field; each by name.
pub fn read_config_json(json: &Json) -> Result<(Family, Config), ConvertError> {
    let fields = Fields::new(json);
    let family = family(&fields)?;
    refuse_variants(&fields, family)?;
    let (hidden, heads) = (fields.need_size("hidden_size")?, fields.need_size("num_attention_heads")?);
    let head_dim = match (fields.size("head_dim")?, family) {
        (Some(head_dim), _) => head_dim,
        // The default of Qwen3Config; the other classes divide.
        (None, Family::Qwen3) => 128,
        (None, _) => hidden.checked_div(heads).unwrap_or(0),
    };
    // Without the key, the class's default; null means as many as query heads.
    let kv_heads = match (json.get("num_key_value_heads"), family) {
        (Some(_), _) | (None, Family::Llama) => heads,
        (None, Family::Qwen2 | Family::Qwen3) => 32,
        (None, Family::Mistral | Family::Ministral) => 8,
        (None, Family::SmolLm3) => 4,
    };
    let context = fields.need_size("max_position_embeddings")?;
    let eps = fields.number("rms_norm_eps")?.unwrap_or(1e-6);
    let default_theta = if family == Family::SmolLm3 { 2e6 } else { 1e4 };
    let mut config = Config {
        hidden,
        layers: fields.need_size("num_hidden_layers")?,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(kv_heads),
        head_dim,
        ffn: fields.need_size("intermediate_size")?,
        vocab: fields.need_size("vocab_size")?,
        context,
        rope: rope::read_json(&fields, default_theta, context)?,
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
    check(&config)?;
    layers(&fields, family, &mut config)?;
    check(&config)?;
    Ok((family, config))
}

fn check(config: &Config) -> Result<(), ConvertError> {
    config.check().map_err(|error| match error {
        FormatError::Config { field, expected, found } => {
            ConvertError::unsupported(format!("{PLACE}: the {field}"), found.to_string(), expected)
        }
        other => other.into(),
    })
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

/// Rejects variants that change the computation.
fn refuse_variants(fields: &Fields<'_>, family: Family) -> Result<(), ConvertError> {
    let off = |value: &Json| value == &Json::Bool(false);
    fields.must_be("hidden_act", "\"silu\"", |value| value == "silu")?;
    // Qwen2's class has its biases whatever the key says.
    fields.must_be("attention_bias", "false", |value| off(value) || family == Family::Qwen2)?;
    for key in ["mlp_bias", "rope_interleaved"] {
        fields.must_be(key, "false", off)?;
    }
    fields.must_be("quantization_config", "unquantized weights", |_| false)?;
    fields.must_be("partial_rotary_factor", "1", |value| value.as_f64() == Some(1.0))?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping", "logit_scale"] {
        fields.must_be(key, "null", |_| false)?;
    }
    for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
        fields.must_be(key, "no experts: one feed-forward network in each layer", |value| value == 0)?;
    }
    if family == Family::Llama {
        fields.must_be("sliding_window", "null", |_| false)?;
    }
    Ok(())
}

/// Sets which layers have RoPE and a sliding window.
fn layers(fields: &Fields<'_>, family: Family, config: &mut Config) -> Result<(), ConvertError> {
    let count = config.layers;
    let rope = if family == Family::SmolLm3 { rope_layers(fields, count)? } else { vec![true; count] };
    // The window, unless a switch turns it off.
    let switch = matches!(family, Family::Qwen2 | Family::Qwen3 | Family::SmolLm3);
    let on = !switch || fields.flag("use_sliding_window")?.unwrap_or(false);
    let window = match (on, fields.all().get("sliding_window"), family) {
        (false, ..) | (_, Some(Json::Null), _) | (_, None, Family::Llama | Family::SmolLm3) => None,
        // The default of the other classes.
        (_, None, _) => Some(4096),
        (_, Some(_), _) => Some(fields.need_size("sliding_window")?),
    };
    if window.is_some_and(|window| !(1..=1 << 20).contains(&window)) {
        let found = window.unwrap_or(0);
        return Err(fields.refuse("sliding_window", found, "1 to 1,048,576 positions, or null"));
    }
    let first = match family {
        Family::Qwen2 | Family::Qwen3 => fields.size("max_window_layers")?.unwrap_or(28),
        _ => 0,
    };
    let by_default = |layer: usize| {
        let selected = if family == Family::SmolLm3 { !rope[layer] } else { layer >= first };
        window.is_some() && selected
    };
    let sliding: Vec<bool> = match layer_types(fields, count)? {
        None => (0..count).map(by_default).collect(),
        // Mistral's class does not read the list.
        Some(types) if family == Family::Mistral && types.iter().any(|&on| on != window.is_some()) => {
            let supported = "sliding_attention in every layer with a sliding_window, full_attention without; \
                             MinistralForCausalLM mixes them";
            return Err(fields.refuse("layer_types", fields.all()["layer_types"].clone(), supported));
        }
        Some(types) => types,
    };
    if window.is_none() && sliding.contains(&true) {
        let supported = if switch {
            "\"full_attention\" for every layer unless use_sliding_window and sliding_window are set"
        } else {
            "\"full_attention\" for every layer without a sliding_window"
        };
        return Err(fields.refuse("layer_types", fields.all()["layer_types"].clone(), supported));
    }
    let pattern = LayerPattern::new(count, |layer| (rope[layer], sliding[layer]));
    config.pattern = pattern.ok_or_else(|| {
        fields.refuse(
            "layer_types",
            format!("{count} layers in no order"),
            "a pattern that repeats after 64 layers or fewer",
        )
    })?;
    config.window = window.filter(|_| config.pattern.any_sliding()).unwrap_or(0);
    Ok(())
}

/// Whether each layer has RoPE, as `SmolLM3Config` determines it.
fn rope_layers(fields: &Fields<'_>, count: usize) -> Result<Vec<bool>, ConvertError> {
    let Some(list) = fields.get("no_rope_layers") else {
        let interval = fields.size("no_rope_layer_interval")?.unwrap_or(4);
        if interval == 0 {
            return Err(fields.refuse("no_rope_layer_interval", 0, "at least 1"));
        }
        return Ok((0..count).map(|layer| !(layer + 1).is_multiple_of(interval)).collect());
    };
    let expected = "a list with 1 (RoPE) or 0 for each layer";
    let flags = list.as_array().filter(|list| list.len() >= count);
    let flags = flags.ok_or_else(|| fields.refuse("no_rope_layers", list, expected))?;
    let flag = |value: &Json| match value.as_u64() {
        Some(flag @ (0 | 1)) => Ok(flag == 1),
        _ => Err(fields.refuse("no_rope_layers", list, expected)),
    };
    flags.iter().take(count).map(flag).collect()
}

/// Whether each layer has a sliding window, as `layer_types` says.
fn layer_types(fields: &Fields<'_>, count: usize) -> Result<Option<Vec<bool>>, ConvertError> {
    let Some(list) = fields.get("layer_types") else { return Ok(None) };
    let refuse = || {
        let supported = "\"full_attention\" or \"sliding_attention\" for each layer";
        fields.refuse("layer_types", list, supported)
    };
    let kinds = list.as_array().filter(|kinds| kinds.len() == count).ok_or_else(refuse)?;
    let sliding = |kind: &Json| LAYER_TYPES.iter().position(|name| kind == name).map(|at| at == 1);
    kinds.iter().map(sliding).collect::<Option<_>>().map(Some).ok_or_else(refuse)
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
    json.extend(options(family, config));
    Ok(json)
}

/// The fields that only some classes have.
fn options(family: Family, config: &Config) -> Vec<(String, Json)> {
    let pattern = &config.pattern;
    let sliding = pattern.any_sliding();
    let types = (0..config.layers).map(|layer| LAYER_TYPES[usize::from(pattern.is_sliding(layer))]);
    let types: Vec<&str> = types.collect();
    let rope: Vec<u8> = (0..config.layers).map(|layer| u8::from(pattern.has_rope(layer))).collect();
    let first = (0..config.layers).find(|&layer| pattern.is_sliding(layer)).unwrap_or(config.layers);
    let window = if sliding { json!(config.window) } else { Json::Null };
    let fields: Vec<(&str, Json)> = match family {
        Family::Llama => vec![("attention_bias", json!(false)), ("mlp_bias", json!(false))],
        Family::Mistral => vec![("sliding_window", window)],
        Family::Ministral => vec![("sliding_window", window), ("layer_types", json!(types))],
        Family::Qwen2 | Family::Qwen3 => {
            let mut fields = vec![
                ("layer_types", json!(types)),
                ("max_window_layers", json!(first)),
                ("sliding_window", window),
                ("use_sliding_window", json!(sliding)),
            ];
            if family == Family::Qwen3 {
                fields.push(("attention_bias", json!(false)));
            }
            fields
        }
        Family::SmolLm3 => vec![
            ("attention_bias", json!(false)),
            ("layer_types", json!(types)),
            ("mlp_bias", json!(false)),
            ("no_rope_layers", json!(rope)),
            ("sliding_window", window),
            ("use_sliding_window", json!(sliding)),
        ],
    };
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

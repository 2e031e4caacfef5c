//! What the models of a family do differently from a plain Llama, but for RoPE's parameters: in `config.json` and in GGUF
//! metadata.

use super::family::Family;
use super::fields::Fields;
use crate::ConvertError;
use crate::read::{Metadata, Value, gguf_field};
use serde_json::{Value as Json, json};
use thimble_runtime::format::{Config, LayerPattern};

/// The names of layers without and with a sliding window.
const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];
/// llama.cpp's SmolLM3 has no RoPE in every fourth layer (`n_no_rope_layer_step`).
const NO_ROPE_STEP: usize = 4;

/// Rejects variants that change the computation, in `config.json`.
pub(super) fn refuse_json(fields: &Fields<'_>, family: Family) -> Result<(), ConvertError> {
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

/// Sets which layers have RoPE and a sliding window, as the class determines it.
pub(super) fn read_json(
    fields: &Fields<'_>,
    family: Family,
    config: &mut Config,
) -> Result<(), ConvertError> {
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
            irregular_key(fields, &rope),
            format!("{count} layers without a repeating pattern"),
            "a pattern that repeats after 64 layers or fewer",
        )
    })?;
    config.window = window.filter(|_| config.pattern.any_sliding()).unwrap_or(0);
    Ok(())
}

/// The key that describes layers without a repeating pattern, where `rope` are those with RoPE.
fn irregular_key(fields: &Fields<'_>, rope: &[bool]) -> &'static str {
    let regular_rope = LayerPattern::new(rope.len(), |layer| (rope[layer], false)).is_some();
    let given = |key| fields.get(key).is_some();
    match regular_rope {
        false if given("no_rope_layers") => "no_rope_layers",
        false => "no_rope_layer_interval",
        true if given("layer_types") => "layer_types",
        true => "max_window_layers",
    }
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

/// The fields of `config.json` that only some classes have.
pub(super) fn write_json(family: Family, config: &Config) -> Vec<(String, Json)> {
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

/// Rejects variants of an architecture that change the computation, in GGUF metadata.
pub(super) fn refuse_gguf(metadata: &Metadata, architecture: &str) -> Result<(), ConvertError> {
    let key = |name: &str| format!("{architecture}.{name}");
    for name in ["expert_count", "pooling_type"] {
        if let Some(count) = metadata.size(&key(name))?
            && count != 0
        {
            return Err(ConvertError::unsupported(key(name), count.to_string(), "none"));
        }
    }
    let causal = key("attention.causal");
    if metadata.0.get(&causal).is_some_and(|causal| *causal != Value::Bool(true)) {
        return Err(ConvertError::unsupported(causal, "false", "true"));
    }
    for name in [
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "logit_scale",
        "residual_scale",
        "embedding_scale",
        "attention.scale",
    ] {
        if let Some(scale) = metadata.float(&key(name))?
            && scale != 0.0
        {
            return Err(ConvertError::unsupported(key(name), scale.to_string(), "none"));
        }
    }
    Ok(())
}

/// Sets which layers have RoPE and a sliding window, as llama.cpp does in this architecture.
pub(super) fn read_gguf(
    metadata: &Metadata,
    family: Family,
    config: &mut Config,
) -> Result<(), ConvertError> {
    let architecture = family.architecture();
    let window_key = format!("{architecture}.attention.sliding_window");
    let window = metadata.size(&window_key)?.unwrap_or(0);
    if window > 1 << 20 {
        let supported = "1 to 1,048,576 positions, or 0 for none";
        return Err(ConvertError::unsupported(window_key, window.to_string(), supported));
    }
    let pattern_key = format!("{architecture}.attention.sliding_window_pattern");
    let sliding: Vec<bool> = match metadata.0.get(&pattern_key) {
        None => vec![window > 0; config.layers],
        Some(Value::Integers(flags)) if flags.len() == config.layers && window > 0 => {
            flags.iter().map(|&flag| flag != 0).collect()
        }
        Some(_) => {
            let expected = "an integer or a boolean for each layer, beside a sliding_window";
            return Err(gguf_field(&pattern_key, expected));
        }
    };
    let rope = |layer: usize| family != Family::SmolLm3 || !(layer + 1).is_multiple_of(NO_ROPE_STEP);
    let pattern = LayerPattern::new(config.layers, |layer| (rope(layer), sliding[layer]));
    config.pattern = pattern.ok_or_else(|| {
        let found = format!("{} layers without a repeating pattern", config.layers);
        ConvertError::unsupported(pattern_key, found, "a pattern that repeats after 64 layers or fewer")
    })?;
    config.window = if config.pattern.any_sliding() { window } else { 0 };
    Ok(())
}

/// The metadata behind the name of the architecture that describes layers.
#[derive(Default)]
pub(super) struct GgufLayers {
    pub(super) keys: Vec<(&'static str, Value)>,
    /// What llama.cpp computes otherwise.
    pub(super) notes: Vec<String>,
}

/// The options of layers as llama.cpp computes them in the family's architecture.
///
/// # Errors
/// Options that it cannot compute.
pub(super) fn write_gguf(config: &Config, family: Family) -> Result<GgufLayers, ConvertError> {
    if family == Family::SmolLm3 {
        let fixed = |layer: usize| config.pattern.has_rope(layer) != (layer + 1).is_multiple_of(NO_ROPE_STEP);
        if !(0..config.layers).all(fixed) {
            let without: Vec<String> = (0..config.layers)
                .filter(|&layer| !config.pattern.has_rope(layer))
                .map(|layer| layer.to_string())
                .collect();
            let found = format!("one without RoPE in the layers {}", without.join(", "));
            let supported = "no RoPE in every fourth layer: llama.cpp has that as a constant";
            return Err(refuse_model(family.architecture(), found, supported));
        }
    }
    let mut written = GgufLayers::default();
    if config.window > 0 {
        written.keys.push(("attention.sliding_window", Value::Unsigned(config.window as u64)));
        let flags: Vec<i32> =
            (0..config.layers).map(|layer| i32::from(config.pattern.is_sliding(layer))).collect();
        if flags.contains(&0) {
            written.keys.push(("attention.sliding_window_pattern", Value::Integers(flags)));
        }
        if config.window < config.context {
            written.notes.push(format!(
                "llama.cpp has no sliding window in the architecture {}: beyond {} positions its \
                 results differ",
                family.architecture(),
                config.window
            ));
        }
    }
    Ok(written)
}

/// The error for a model that llama.cpp cannot compute in an architecture.
pub(super) fn refuse_model(architecture: &str, found: String, supported: &'static str) -> ConvertError {
    ConvertError::unsupported(format!("the model for GGUF's architecture {architecture}"), found, supported)
}

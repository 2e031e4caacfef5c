//! RoPE and its scaling in `config.json` and in GGUF metadata.

use super::fields::{Fields, PLACE, in_range, shortest};
use super::rope_divisors;
use crate::ConvertError;
use crate::read::Metadata;
use crate::read::Value;
use serde_json::{Value as Json, json};
use thimble_runtime::format::{RopeParameters, RopeScaling};

/// Keys that parameters of every type may have.
const KEYS: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
const ORIGINAL: &str = "original_max_position_embeddings";
/// YaRN's defaults, the only values that llama.cpp computes these architectures with.
const BETAS: [f32; 2] = [32.0, 1.0];
/// The only architecture in which llama.cpp reads divisors of RoPE's frequencies.
const DIVISORS: &str = "llama";
/// What [`RopeParameters`] takes.
const FACTOR: &str = "1 to 1,000,000";
const ABOVE_ZERO: &str = "0.000001 to 1,000,000";

/// RoPE in the `config.json` of a class with this default theta, as transformers 5 determines it.
///
/// A non-empty `rope_scaling` replaces `rope_parameters`. The `rope_theta` inside overrides the one at the top level.
///
/// # Errors
/// An unknown type or key, or a value out of range.
pub(super) fn read_json(
    fields: &Fields<'_>,
    default_theta: f64,
    context: usize,
) -> Result<RopeParameters, ConvertError> {
    let scaling = fields.inner("rope_scaling").filter(|scaling| !is_empty(scaling.all()));
    let inner = scaling.or_else(|| fields.inner("rope_parameters"));
    let has_theta = |object: &Fields<'_>| object.all().get("rope_theta").is_some();
    let expected = "a number (without the key it is the default of the class)";
    let theta = match &inner {
        Some(inner) if has_theta(inner) => {
            inner.number("rope_theta")?.ok_or_else(|| inner.wrong("rope_theta", expected))?
        }
        _ if has_theta(fields) => {
            fields.number("rope_theta")?.ok_or_else(|| fields.wrong("rope_theta", expected))?
        }
        _ => default_theta,
    };
    let theta = in_range(format!("{PLACE}: rope_theta"), theta, 1.0..=f64::from(f32::MAX), "at least 1")?;
    let scaling = match inner {
        Some(inner) => json_scaling(fields, &inner, context)?,
        None => RopeScaling::None,
    };
    let rope = RopeParameters { theta, scaling };
    if matches!(scaling, RopeScaling::Yarn { .. }) && theta <= 1.000_001 {
        return Err(fields.refuse("rope_theta", theta, "above 1 with YaRN"));
    }
    Ok(rope)
}

/// The scaling that a `rope_scaling` or `rope_parameters` object describes.
fn json_scaling(
    fields: &Fields<'_>,
    inner: &Fields<'_>,
    context: usize,
) -> Result<RopeScaling, ConvertError> {
    let name = inner.prefix.trim_end_matches(": ");
    let kinds = "an object with the type default, linear, llama3 or yarn and its own keys";
    let refuse = || fields.refuse(name, inner.all(), kinds);
    let object = inner.all().as_object().ok_or_else(refuse)?;
    let kind = match object.get("rope_type").or_else(|| object.get("type")) {
        None => "default",
        Some(kind) => kind.as_str().ok_or_else(refuse)?,
    };
    let own: &[&str] = match kind {
        "default" | "linear" => &["factor"],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL],
        "yarn" => &[
            "factor",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            ORIGINAL,
        ],
        _ => return Err(refuse()),
    };
    if object.keys().any(|key| !KEYS.contains(&key.as_str()) && !own.contains(&key.as_str())) {
        return Err(refuse());
    }
    inner.must_be("partial_rotary_factor", "1", |value| value.as_f64() == Some(1.0))?;
    let bounded = |key: &str, value: f64, low: f64, expected| {
        in_range(format!("{PLACE}: {}{key}", inner.prefix), value, low..=1e6, expected)
    };
    let factor = |value: f64| bounded("factor", value, 1.0, FACTOR);
    match kind {
        "linear" => Ok(RopeScaling::Linear { factor: factor(inner.need_number("factor")?)? }),
        "llama3" => {
            let low = inner.need_number("low_freq_factor")?;
            let high = inner.need_number("high_freq_factor")?;
            let above = low * (1.0 + 1e-5);
            Ok(RopeScaling::Llama3 {
                factor: factor(inner.need_number("factor")?)?,
                low_freq_factor: bounded("low_freq_factor", low, 1e-6, ABOVE_ZERO)?,
                high_freq_factor: bounded("high_freq_factor", high, above, "above the low_freq_factor")?,
                original_context: original(fields, inner, context)?,
            })
        }
        "yarn" => {
            let original_context = original(fields, inner, context)?;
            let value = match object.get("factor") {
                // As transformers does for DeepSeek.
                Some(Json::Null) => context as f64 / f64::from(original_context),
                _ => inner.need_number("factor")?,
            };
            let or = |key: &str, default: f64| -> Result<f64, ConvertError> {
                Ok(inner.number(key)?.filter(|&value| value != 0.0).unwrap_or(default))
            };
            let slow = or("beta_slow", 1.0)?;
            let attention = match inner.number("attention_factor")? {
                Some(attention) => attention,
                None => match (or("mscale", 0.0)?, or("mscale_all_dim", 0.0)?) {
                    (one, all) if one != 0.0 && all != 0.0 => mscale(value, one) / mscale(value, all),
                    _ => mscale(value, 1.0),
                },
            };
            Ok(RopeScaling::Yarn {
                factor: factor(value)?,
                original_context,
                beta_fast: bounded("beta_fast", or("beta_fast", 32.0)?, slow, "not below beta_slow")?,
                beta_slow: bounded("beta_slow", slow, 1e-6, ABOVE_ZERO)?,
                attention_factor: bounded("attention_factor", attention, 1e-6, ABOVE_ZERO)?,
                // Null is false in Python; only a missing key is true.
                truncate: !object.contains_key("truncate") || inner.flag("truncate")?.unwrap_or(false),
            })
        }
        _ => {
            let plain = |value: &Json| value.as_f64() == Some(1.0);
            inner.must_be("factor", "1 with the type default", plain)?;
            Ok(RopeScaling::None)
        }
    }
}

/// The context of pretraining: inside, at the top level, or the whole context.
fn original(fields: &Fields<'_>, inner: &Fields<'_>, context: usize) -> Result<u32, ConvertError> {
    let (own, outer) = (inner.size(ORIGINAL)?, fields.size(ORIGINAL)?);
    if let (Some(own), Some(outer)) = (own, outer)
        && own != outer
    {
        return Err(inner.refuse(ORIGINAL, own, "the same value as at the top level of config.json"));
    }
    let found = own.or(outer).unwrap_or(context);
    let fits = u32::try_from(found).ok().filter(|found| (1..=1 << 20).contains(found));
    fits.ok_or_else(|| inner.refuse(ORIGINAL, found, "1 to 1,048,576"))
}

/// YaRN's factor for attention (`get_mscale`; Peng et al. 2023, eq. 22).
fn mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// Whether a value is false in Python.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
    }
}

/// `rope_theta` and `rope_scaling`, in the spelling that transformers 4 and 5 both read.
pub(super) fn write_json(rope: &RopeParameters) -> (f64, Json) {
    let scaling = match rope.scaling {
        RopeScaling::None => Json::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": shortest(factor)}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": shortest(factor),
            "low_freq_factor": shortest(low_freq_factor),
            "high_freq_factor": shortest(high_freq_factor),
            "original_max_position_embeddings": original_context,
        }),
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } => {
            let mut json = json!({
                "rope_type": "yarn",
                "factor": shortest(factor),
                "original_max_position_embeddings": original_context,
                "beta_fast": shortest(beta_fast),
                "beta_slow": shortest(beta_slow),
                "attention_factor": shortest(attention_factor),
            });
            if !truncate {
                // transformers 4 has no such key before 4.56.
                json["truncate"] = false.into();
            }
            json
        }
    };
    (shortest(rope.theta), scaling)
}

/// RoPE in the metadata of a GGUF file; `divisors` are the numbers of its tensor `rope_freqs.weight`.
///
/// # Errors
/// A scaling that llama.cpp computes otherwise than transformers, or not at all; a value out of range.
pub(super) fn read_gguf(
    metadata: &Metadata,
    architecture: &str,
    context: usize,
    divisors: Option<&[f32]>,
) -> Result<RopeParameters, ConvertError> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let number = |name: &str| metadata.float(&key(name));
    let theta = number("freq_base")?.unwrap_or(10_000.0);
    let theta = in_range(key("freq_base"), theta, 1.0..=f64::from(f32::MAX), "at least 1")?;
    // llama.cpp's default.
    let kind = metadata.text(&key("scaling.type"))?.unwrap_or_else(|| "linear".to_owned());
    let factor = match number("scaling.factor")? {
        Some(factor) => (key("scaling.factor"), factor),
        None => (key("scale_linear"), number("scale_linear")?.unwrap_or(1.0)),
    };
    // 0 means none.
    let value = if factor.1 == 0.0 { 1.0 } else { factor.1 };
    let value = in_range(factor.0, value, 1.0..=1e6, FACTOR)?;
    for name in ["scaling.yarn_log_multiplier", "scaling.alpha"] {
        if let Some(found) = number(name)?.filter(|&found| found != 0.0) {
            return Err(ConvertError::unsupported(key(name), found.to_string(), "none"));
        }
    }
    let plain = mscale(f64::from(value), 1.0);
    // What llama.cpp ignores in these architectures has to be what it computes with. Its converter writes the
    // `attention_factor` of config.json as `yarn_attn_factor`; -1 and 1 are the values for "not set".
    let ignored = [
        ("scaling.yarn_ext_factor", -1.0, 1.0),
        ("scaling.yarn_attn_factor", 1.0, plain),
        ("scaling.yarn_beta_fast", f64::from(BETAS[0]), f64::from(BETAS[0])),
        ("scaling.yarn_beta_slow", f64::from(BETAS[1]), f64::from(BETAS[1])),
    ];
    for (name, unset, computed) in ignored {
        // Not a number agrees with nothing.
        let agrees = |found: f64| found == unset || (found - computed).abs() <= 1e-6 * computed;
        if let Some(found) = number(name)?.filter(|&found| kind == "yarn" && !agrees(found)) {
            let supported = "what llama.cpp computes with, as it ignores the key: 32 for beta_fast, 1 for beta_slow \
                             and ext_factor, 0.1 ln(factor) + 1 for attn_factor";
            return Err(ConvertError::unsupported(key(name), found.to_string(), supported));
        }
    }
    let attention = number("scaling.attn_factor")?.unwrap_or(1.0);
    let scaling = match kind.as_str() {
        "none" => RopeScaling::None,
        "linear" if value == 1.0 => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: value },
        "yarn" => {
            let name = key("scaling.original_context_length");
            let found = metadata.size(&name)?.unwrap_or(context);
            let original = u32::try_from(found).ok().filter(|found| (1..=1 << 20).contains(found));
            let refuse = || ConvertError::unsupported(name, found.to_string(), "1 to 1,048,576");
            RopeScaling::Yarn {
                factor: value,
                original_context: original.ok_or_else(refuse)?,
                beta_fast: BETAS[0],
                beta_slow: BETAS[1],
                // llama.cpp multiplies its own factor with that of the file.
                attention_factor: in_range(
                    key("scaling.attn_factor"),
                    attention * plain,
                    1e-6..=1e6,
                    ABOVE_ZERO,
                )?,
                truncate: true,
            }
        }
        _ => return Err(ConvertError::unsupported(key("scaling.type"), kind, "none, linear, yarn")),
    };
    if attention != 1.0 && !matches!(scaling, RopeScaling::Yarn { .. }) {
        let found = attention.to_string();
        return Err(ConvertError::unsupported(key("scaling.attn_factor"), found, "1 without YaRN"));
    }
    let rope = RopeParameters { theta, scaling };
    match divisors {
        None => Ok(rope),
        Some(_) if architecture != DIVISORS => {
            let found = format!("there in the architecture {architecture}");
            let supported = "none: llama.cpp reads it in the architecture llama only";
            Err(ConvertError::unsupported("tensor rope_freqs.weight", found, supported))
        }
        Some(divisors) if scaling == RopeScaling::None => rope_divisors::scaling(theta, divisors),
        Some(_) => {
            let found = format!("there beside {}", key("scaling.type"));
            Err(ConvertError::unsupported("tensor rope_freqs.weight", found, "one scaling of RoPE"))
        }
    }
}

/// The metadata behind `{architecture}.rope.` that describes the scaling, and the divisors of `rope_freqs.weight`.
pub(super) struct GgufRope {
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) divisors: Option<Vec<f32>>,
}

/// The scaling as llama.cpp computes it in this architecture.
///
/// # Errors
/// A scaling that it cannot compute.
pub(super) fn write_gguf(
    rope: &RopeParameters,
    architecture: &str,
    head_dim: usize,
) -> Result<GgufRope, ConvertError> {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let float = |number: f32| Value::Float(f64::from(number));
    let refuse =
        |found: &str, supported| ConvertError::unsupported("the RoPE scaling for GGUF", found, supported);
    let mut written = GgufRope { keys: Vec::new(), divisors: None };
    match rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            written.keys = vec![("scaling.type", text("linear")), ("scaling.factor", float(factor))];
        }
        RopeScaling::Llama3 { .. } if architecture != DIVISORS => {
            let found = format!("llama3 in the architecture {architecture}");
            return Err(refuse(&found, "llama3 in the architecture llama: llama.cpp has it in no other"));
        }
        RopeScaling::Llama3 { .. } => {
            written.divisors = Some(rope_divisors::divisors(rope, head_dim / 2));
        }
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate } => {
            if [beta_fast, beta_slow] != BETAS || !truncate {
                let found =
                    format!("yarn with beta_fast {beta_fast}, beta_slow {beta_slow}, truncate {truncate}");
                return Err(refuse(&found, "32, 1 and true: llama.cpp computes with these"));
            }
            written.keys = vec![
                ("scaling.type", text("yarn")),
                ("scaling.factor", float(factor)),
                ("scaling.original_context_length", Value::Unsigned(original_context.into())),
            ];
            let own = (f64::from(attention_factor) / mscale(f64::from(factor), 1.0)) as f32;
            if (own - 1.0).abs() > f32::EPSILON {
                written.keys.push(("scaling.attn_factor", float(own)));
            }
        }
    }
    Ok(written)
}

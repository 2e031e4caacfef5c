//! GGUF metadata, as llama.cpp reads it and its converter writes it.

use super::family::{ARCHITECTURES, Family};
use super::fields::{check, in_range};
use super::{options, rope};
use crate::ConvertError;
use crate::read::{Metadata, RawTensor, Value, add_stop, gguf_field};
use std::collections::BTreeMap;
use thimble_runtime::Token;
use thimble_runtime::format::{Config, TensorRole};

/// The tensor with the divisors of RoPE's frequencies.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";
/// The family and configuration of a GGUF file with these tensors; `divisors` are the numbers of [`ROPE_FREQS`].
///
/// # Errors
/// Another architecture, an unsupported variant of a known one, or an invalid field; each by name.
pub(crate) fn read(
    metadata: &Metadata,
    found: &BTreeMap<String, RawTensor>,
    divisors: Option<&[f32]>,
) -> Result<(Family, Config), ConvertError> {
    let architecture = metadata.need_text("general.architecture")?;
    let family = Family::ALL.into_iter().find(|family| family.architecture() == architecture);
    let family = family
        .ok_or_else(|| ConvertError::unsupported("the architecture", architecture.clone(), ARCHITECTURES))?;
    options::refuse_gguf(metadata, &architecture)?;
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| metadata.size(&key(name));
    let need = |name: &str| metadata.need_size(&key(name));
    let (hidden, heads) = (need("embedding_length")?, need("attention.head_count")?);
    let embedding = TensorRole::Embedding.gguf(TensorRole::NO_LAYER).to_string();
    let missing = || ConvertError::MissingTensor { name: embedding.clone() };
    let shape = &found.get(&embedding).ok_or_else(missing)?.shape;
    let vocab = shape.first().and_then(|&rows| usize::try_from(rows).ok()).unwrap_or(usize::MAX);
    let head_dim = size("attention.key_length")?.unwrap_or(hidden.checked_div(heads).unwrap_or(0));
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(dim) = size(name)?
            && dim != head_dim
        {
            return Err(ConvertError::unsupported(key(name), dim.to_string(), "the head dimension"));
        }
    }
    let context = need("context_length")?;
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let value = metadata.float(&epsilon)?.ok_or_else(|| gguf_field(&epsilon, "a number"))?;
    let mut config = Config {
        hidden,
        layers: need("block_count")?,
        heads,
        kv_heads: size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        ffn: need("feed_forward_length")?,
        vocab,
        context,
        rope: rope::read_gguf(metadata, &architecture, context, divisors)?,
        norm_eps: in_range(epsilon, value, 1e-30..=0.999_999, "between 0 and 1")?,
        tied: !found.contains_key(&TensorRole::Head.gguf(TensorRole::NO_LAYER).to_string()),
        qkv_bias: family == Family::Qwen2,
        qk_norm: family == Family::Qwen3,
        ..Config::PLAIN
    };
    let id = |key: &'static str| -> Result<Option<u32>, ConvertError> {
        let wrong = |_| gguf_field(key, "a token id");
        metadata.size(key)?.map(|id| u32::try_from(id).map_err(wrong)).transpose()
    };
    config.bos = id("tokenizer.ggml.bos_token_id")?.map(Token);
    let stops = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    for key in stops {
        if let Some(token) = id(key)? {
            add_stop(&mut config, token)?;
        }
    }
    // Bounds the number of layers before the pattern.
    check(&config, "GGUF metadata")?;
    if let Some(divisors) = divisors
        && divisors.len() != head_dim / 2
    {
        let (expected, found) = (vec![head_dim as u64 / 2], vec![divisors.len() as u64]);
        return Err(ConvertError::Shape { name: ROPE_FREQS.to_owned(), expected, found });
    }
    options::read_gguf(metadata, family, &mut config)?;
    check(&config, "GGUF metadata")?;
    // A window of the architecture llama makes the model a Mistral.
    let family = if family == Family::Llama { Family::of(&config)? } else { family };
    Ok((family, config))
}

/// What a GGUF file says of a model: metadata in the order of the file, and the numbers of [`ROPE_FREQS`].
pub(crate) struct Hyperparameters {
    pub(crate) keys: Vec<(String, Value)>,
    pub(crate) rope_freqs: Option<Vec<f32>>,
    /// What llama.cpp computes otherwise.
    pub(crate) notes: Vec<String>,
}

/// The family whose architecture a GGUF file of this model has.
///
/// # Errors
/// No family has these options together.
pub(crate) fn family(config: &Config) -> Result<Family, ConvertError> {
    Family::of(config)
}

/// The metadata of a model.
///
/// # Errors
/// A model that llama.cpp cannot compute in any architecture.
pub(crate) fn write(config: &Config) -> Result<Hyperparameters, ConvertError> {
    let family = family(config)?;
    let architecture = family.architecture();
    let layers = options::write_gguf(config, family)?;
    if family == Family::Qwen2 && config.q_dim() != config.hidden {
        let found = format!(
            "one with {} heads of {} for a hidden size of {}",
            config.heads, config.head_dim, config.hidden
        );
        let supported = "heads that make up the hidden size: llama.cpp expects it";
        return Err(options::refuse_model(architecture, found, supported));
    }
    let rope = rope::write_gguf(&config.rope, architecture, config.head_dim)?;
    // `Config::check` bounds every size far below 2^32.
    let size = |size: usize| Value::Unsigned(size as u64);
    let float = |number: f32| Value::Float(f64::from(number));
    let mut keys = vec![
        ("block_count", size(config.layers)),
        ("context_length", size(config.context)),
        ("embedding_length", size(config.hidden)),
        ("feed_forward_length", size(config.ffn)),
        ("attention.head_count", size(config.heads)),
        ("attention.head_count_kv", size(config.kv_heads)),
        ("vocab_size", size(config.vocab)),
        ("rope.dimension_count", size(config.head_dim)),
    ];
    if config.q_dim() != config.hidden {
        keys.push(("attention.key_length", size(config.head_dim)));
        keys.push(("attention.value_length", size(config.head_dim)));
    }
    keys.push(("rope.freq_base", float(config.rope.theta)));
    keys.push(("attention.layer_norm_rms_epsilon", float(config.norm_eps)));
    keys.extend(layers.keys);
    let name = |key: &str| format!("{architecture}.{key}");
    let mut named: Vec<(String, Value)> = keys.into_iter().map(|(key, value)| (name(key), value)).collect();
    named.extend(rope.keys.into_iter().map(|(key, value)| (format!("{architecture}.rope.{key}"), value)));
    Ok(Hyperparameters { keys: named, rope_freqs: rope.divisors, notes: layers.notes })
}

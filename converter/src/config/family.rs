//! The families of models: what transformers and llama.cpp call them, and which configurations they can have.

use crate::ConvertError;
use thimble_runtime::format::{Config, LayerPattern};

/// Models with one class in transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama and SmolLM2.
    Llama,
    /// Qwen2 and Qwen2.5: biases of query, key and value.
    Qwen2,
    /// Qwen3: norms of query and key heads.
    Qwen3,
    /// Mistral: one sliding window for all layers, or none.
    Mistral,
    /// Ministral: layers with and without a sliding window.
    Ministral,
    /// SmolLM3: layers without RoPE.
    SmolLm3,
}

/// Supported values of `architectures`.
pub(super) const CLASSES: &str = "LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, MistralForCausalLM, \
                                  MinistralForCausalLM, SmolLM3ForCausalLM";
/// Supported values of `model_type`.
pub(super) const MODEL_TYPES: &str = "llama, qwen2, qwen3, mistral, ministral, smollm3";
/// Supported values of `general.architecture`.
pub(super) const ARCHITECTURES: &str = "llama, qwen2, qwen3, smollm3";

impl Family {
    /// Every family; of those with a configuration the first has the simplest class.
    pub const ALL: [Family; 6] =
        [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Mistral, Family::Ministral, Family::SmolLm3];

    /// The names: class in transformers, `model_type`, architecture in llama.cpp.
    fn names(self) -> [&'static str; 3] {
        match self {
            Family::Llama => ["LlamaForCausalLM", "llama", "llama"],
            Family::Qwen2 => ["Qwen2ForCausalLM", "qwen2", "qwen2"],
            Family::Qwen3 => ["Qwen3ForCausalLM", "qwen3", "qwen3"],
            Family::Mistral => ["MistralForCausalLM", "mistral", "llama"],
            Family::Ministral => ["MinistralForCausalLM", "ministral", "llama"],
            Family::SmolLm3 => ["SmolLM3ForCausalLM", "smollm3", "smollm3"],
        }
    }

    /// The class in transformers.
    pub fn class(self) -> &'static str {
        self.names()[0]
    }

    /// The `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        self.names()[1]
    }

    /// The `general.architecture` in GGUF files.
    pub fn architecture(self) -> &'static str {
        self.names()[2]
    }

    /// The family with this class (of the model with or without a head), `model_type` or architecture.
    pub fn named(name: &str) -> Option<Family> {
        let bare = |family: Family| family.class().replace("ForCausalLM", "Model");
        let is = |family: &Family| family.names().contains(&name) || bare(*family) == name;
        Family::ALL.into_iter().find(is)
    }

    /// Key-value heads without their key in `config.json`; `None`: as many as query heads.
    pub(super) fn default_kv_heads(self) -> Option<usize> {
        match self {
            Family::Llama => None,
            Family::Qwen2 | Family::Qwen3 => Some(32),
            Family::Mistral | Family::Ministral => Some(8),
            Family::SmolLm3 => Some(4),
        }
    }

    /// The head dimension without its key in `config.json`; `None`: the hidden size over the heads.
    pub(super) fn default_head_dim(self) -> Option<usize> {
        (self == Family::Qwen3).then_some(128)
    }

    /// RoPE's theta without its key in `config.json`.
    pub(super) fn default_theta(self) -> f64 {
        if self == Family::SmolLm3 { 2e6 } else { 1e4 }
    }

    /// Whether the family's class computes what the configuration describes.
    pub fn describes(self, config: &Config) -> bool {
        let pattern = &config.pattern;
        let parts = (config.qkv_bias, config.qk_norm);
        let (bare, rope) = (parts == (false, false), !pattern.any_without_rope());
        match self {
            Family::Llama => bare && *pattern == LayerPattern::PLAIN,
            Family::Qwen2 => parts == (true, false) && rope,
            Family::Qwen3 => parts == (false, true) && rope,
            Family::Mistral => {
                let sliding = pattern.any_sliding();
                bare && rope && (0..config.layers).all(|layer| pattern.is_sliding(layer) == sliding)
            }
            Family::Ministral => bare && rope,
            Family::SmolLm3 => bare,
        }
    }

    /// The family of a source without a name.
    ///
    /// # Errors
    /// No family has these options together.
    pub fn of(config: &Config) -> Result<Family, ConvertError> {
        let found = Family::ALL.into_iter().find(|family| family.describes(config));
        found.ok_or_else(|| {
            let parts = [
                (config.qkv_bias, "biases of query, key and value"),
                (config.qk_norm, "norms of query and key"),
                (config.pattern.any_without_rope(), "layers without RoPE"),
            ];
            let parts: Vec<&str> = parts.into_iter().filter(|part| part.0).map(|part| part.1).collect();
            let found = format!("one with {}", parts.join(", "));
            ConvertError::unsupported("the combination of the model's options", found, CLASSES)
        })
    }

    /// The family that the source names, if that describes the configuration; otherwise [`Family::of`].
    ///
    /// # Errors
    /// Those of [`Family::of`].
    pub fn of_source(name: &str, config: &Config) -> Result<Family, ConvertError> {
        match Family::named(name).filter(|family| family.describes(config)) {
            Some(family) => Ok(family),
            None => Family::of(config),
        }
    }

    /// Whether llama.cpp's converter interleaves the rows of Q and K (`undo_permute`).
    pub(crate) fn interleaves(self) -> bool {
        !matches!(self, Family::Qwen2 | Family::Qwen3)
    }

    /// The tensors of a model, for error messages.
    pub(crate) fn tensors(self) -> &'static str {
        match self {
            Family::Qwen2 => {
                "nine weights and the biases of query, key and value in each layer, embedding, final norm and head"
            }
            Family::Qwen3 => {
                "nine weights and the norms of query and key in each layer, embedding, final norm and head"
            }
            _ => "the nine weights of a Llama layer, embedding, final norm and head",
        }
    }
}

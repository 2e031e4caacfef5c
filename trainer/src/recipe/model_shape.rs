//! The model's description in a recipe.

use super::optional;
use serde::{Deserialize, Serialize};
use thimble_runtime::format::{Config, LayerPattern, RopeParameters, RopeScaling};

/// The `[model]` table: the shape and options of a Llama-family model, and its initial weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; `hidden / heads` unless given.
    #[serde(default, deserialize_with = "optional::or_none")]
    pub head_dim: Option<usize>,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Positions the exported model is made for (`max_position_embeddings`).
    pub context: usize,
    /// Base of the rotary embedding's frequencies; a stage may change it.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Scaling of the rotary embedding's frequencies; none: off.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub rope_scaling: Option<RopeScalingKeys>,
    /// Epsilon of RMSNorm.
    #[serde(default = "default_norm_epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    #[serde(default = "yes")]
    pub tied: bool,
    /// Whether query, key and value projections have biases (Qwen2).
    #[serde(default, skip_serializing_if = "is_off")]
    pub qkv_bias: bool,
    /// Whether each query and key head has an RMS norm, before RoPE (Qwen3).
    #[serde(default, skip_serializing_if = "is_off")]
    pub qk_norm: bool,
    /// Positions that a token attends to in layers with a sliding window, itself included; none: no layer has one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub window: Option<usize>,
    /// The layers without RoPE, and those with the sliding window; unless given, all layers have RoPE, and the window
    /// if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional::or_none")]
    pub pattern: Option<PatternKeys>,
    /// Standard deviation of the initial weights; the two projections back into the residual stream get it divided by
    /// sqrt(2 x layers) (Radford et al. 2019, section 2.3).
    #[serde(default = "default_init")]
    pub init_std: f64,
}

/// A scaling of RoPE, as in `rope_scaling = { kind = "linear", factor = 4.0 }`; see [`RopeScaling`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScalingKeys {
    /// Position interpolation (Chen et al. 2023).
    Linear {
        /// Divides all frequencies.
        factor: f64,
    },
    /// Llama 3.1's.
    Llama3 {
        /// Divides the frequencies of long wavelengths.
        factor: f64,
        /// `original_context` over this is the shortest long wavelength.
        #[serde(default = "default_low")]
        low_freq_factor: f64,
        /// `original_context` over this is the longest short wavelength.
        #[serde(default = "default_high")]
        high_freq_factor: f64,
        /// Context of pretraining, positions.
        original_context: u32,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// Divides the frequencies with few rotations.
        factor: f64,
        /// Context of pretraining, positions.
        original_context: u32,
        /// Frequencies with more rotations are kept.
        #[serde(default = "default_fast")]
        beta_fast: f64,
        /// Frequencies with fewer rotations are divided.
        #[serde(default = "default_slow")]
        beta_slow: f64,
        /// Factor of cosine and sine; 0.1 ln(factor) + 1 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Whether the ends of the interpolated range are rounded to whole dimensions.
        #[serde(default = "yes")]
        truncate: bool,
    },
}

/// A pattern of layers, as in `pattern = { period = 4, no_rope = [3] }`; it repeats after `period` layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternKeys {
    /// Layers after which the pattern repeats.
    pub period: usize,
    /// Layers of the period without RoPE, from 0.
    #[serde(default)]
    pub no_rope: Vec<usize>,
    /// Layers of the period with the sliding window, from 0.
    #[serde(default)]
    pub sliding: Vec<usize>,
}

impl ModelShape {
    /// Width of a head: `head_dim`, or `hidden / heads`.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.hidden / self.heads.max(1))
    }

    /// The description of the model, without special tokens.
    pub fn config(&self) -> Config {
        let sliding = self.window.is_some();
        let pattern = self.pattern.as_ref().map_or_else(
            || LayerPattern::new(self.layers, |_| (true, sliding)),
            |keys| {
                let has = |layers: &[usize], layer: usize| layers.contains(&(layer % keys.period.max(1)));
                LayerPattern::new(self.layers, |layer| {
                    (!has(&keys.no_rope, layer), has(&keys.sliding, layer))
                })
            },
        );
        Config {
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_width(),
            ffn: self.ffn,
            vocab: self.vocab,
            context: self.context,
            rope: RopeParameters {
                theta: self.rope_theta as f32,
                scaling: self.rope_scaling.as_ref().map_or(RopeScaling::None, RopeScalingKeys::scaling),
            },
            norm_eps: self.rms_norm_eps as f32,
            tied: self.tied,
            qkv_bias: self.qkv_bias,
            qk_norm: self.qk_norm,
            window: self.window.unwrap_or(0),
            // The recipe's check has refused patterns that are too long.
            pattern: pattern.unwrap_or(LayerPattern::PLAIN),
            bos: None,
            stop: [None; Config::MAX_STOP_TOKENS],
        }
    }
}

impl RopeScalingKeys {
    fn scaling(&self) -> RopeScaling {
        match *self {
            RopeScalingKeys::Linear { factor } => RopeScaling::Linear { factor: factor as f32 },
            RopeScalingKeys::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                RopeScaling::Llama3 {
                    factor: factor as f32,
                    low_freq_factor: low_freq_factor as f32,
                    high_freq_factor: high_freq_factor as f32,
                    original_context,
                }
            }
            RopeScalingKeys::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => RopeScaling::Yarn {
                factor: factor as f32,
                original_context,
                beta_fast: beta_fast as f32,
                beta_slow: beta_slow as f32,
                // Peng et al. 2023, eq. 22.
                attention_factor: attention_factor.unwrap_or_else(|| 0.1 * factor.ln() + 1.0) as f32,
                truncate,
            },
        }
    }
}

fn default_theta() -> f64 {
    10_000.0
}
fn default_norm_epsilon() -> f64 {
    1e-5
}
fn default_init() -> f64 {
    0.02
}
fn default_low() -> f64 {
    1.0
}
fn default_high() -> f64 {
    4.0
}
fn default_fast() -> f64 {
    32.0
}
fn default_slow() -> f64 {
    1.0
}
fn yes() -> bool {
    true
}
fn is_off(value: &bool) -> bool {
    !value
}

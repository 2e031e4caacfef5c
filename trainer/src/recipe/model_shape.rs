//! The model's description in a recipe, and its checks.

use super::check::{Faults, MAX_CONTEXT, MAX_POSITIONS, Range};
use super::decimal::decimal;
use super::{RopeScalingKeys, optional};
use serde::{Deserialize, Serialize};
use thimble_converter::config::Family;
use thimble_runtime::format::{Config, LayerPattern, RopeParameters, RopeScaling};

/// Largest accepted sizes: with all of them at once, parameters and FLOPs still fit 64 bits.
const MAX_HIDDEN: usize = 1 << 16;
const MAX_FFN: usize = 1 << 18;
const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 10;
const MAX_HEAD_DIM: usize = 1 << 8;
const MAX_VOCAB: usize = 1 << 22;

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
    /// Whether RoPE is scaled by YaRN, which needs a base above 1.
    pub(super) fn has_yarn(&self) -> bool {
        matches!(self.rope_scaling, Some(RopeScalingKeys::Yarn { .. }))
    }

    /// Width of a head: `head_dim`, or `hidden / heads`.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.hidden / self.heads.max(1))
    }

    /// The shape of a described model.
    pub fn of(config: &Config) -> ModelShape {
        let option = |layer: usize| (config.pattern.has_rope(layer), config.pattern.is_sliding(layer));
        let window = config.pattern.any_sliding().then_some(config.window);
        let all = |layer: usize| option(layer) == (true, window.is_some());
        let pattern = (!(0..config.layers).all(all)).then(|| {
            let repeats = |period: &usize| {
                (*period..config.layers).all(|layer| option(layer) == option(layer % period))
            };
            let period = (1..LayerPattern::MAX_PERIOD).find(repeats).unwrap_or(LayerPattern::MAX_PERIOD);
            let layers =
                |has: &dyn Fn(usize) -> bool| (0..period).filter(|&layer| has(layer)).collect::<Vec<_>>();
            PatternKeys {
                period,
                no_rope: layers(&|layer| !option(layer).0),
                sliding: layers(&|layer| option(layer).1),
            }
        });
        ModelShape {
            hidden: config.hidden,
            layers: config.layers,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: Some(config.head_dim),
            ffn: config.ffn,
            vocab: config.vocab,
            context: config.context,
            rope_theta: decimal(config.rope.theta),
            rope_scaling: RopeScalingKeys::of(&config.rope.scaling),
            rms_norm_eps: decimal(config.norm_eps),
            tied: config.tied,
            qkv_bias: config.qkv_bias,
            qk_norm: config.qk_norm,
            window,
            pattern,
            init_std: default_init(),
        }
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

impl Faults {
    pub(super) fn model(&mut self, model: &ModelShape) {
        let before = self.0.len();
        self.size("model.hidden", model.hidden, MAX_HIDDEN);
        self.size("model.layers", model.layers, MAX_LAYERS);
        self.size("model.heads", model.heads, MAX_HEADS);
        self.size("model.kv_heads", model.kv_heads, MAX_HEADS);
        if model.heads > 0 && model.kv_heads > 0 {
            self.require(model.heads.is_multiple_of(model.kv_heads), "model.kv_heads", || {
                format!("must divide model.heads = {}, found {}", model.heads, model.kv_heads)
            });
        }
        self.head_dim(model);
        self.size("model.ffn", model.ffn, MAX_FFN);
        self.size("model.vocab", model.vocab, MAX_VOCAB);
        self.size("model.context", model.context, MAX_CONTEXT);
        self.number("model.rope_theta", model.rope_theta, Range::Positive);
        self.number("model.rms_norm_eps", model.rms_norm_eps, Range::Positive);
        self.number("model.init_std", model.init_std, Range::Positive);
        if let Some(scaling) = &model.rope_scaling {
            self.rope_scaling(model.rope_theta, scaling);
        }
        if let Some(window) = model.window {
            self.size("model.window", window, MAX_POSITIONS);
        }
        let slides = model.pattern.as_ref().is_none_or(|pattern| !pattern.sliding.is_empty());
        self.require(model.window.is_none() || slides, "model.pattern.sliding", || {
            "expected at least one layer for model.window, found none".into()
        });
        if let Some(pattern) = &model.pattern {
            self.pattern(model, pattern);
        }
        // A description of sizes that are at fault could take long to make.
        if self.0.len() == before {
            let config = model.config();
            let error = config.check().map_err(|error| error.to_string());
            let error = error.and_then(|()| Family::of(&config).map_err(|error| error.to_string()));
            if let Err(error) = error {
                self.require(false, "model", || format!("no format can hold the trained model: {error}"));
            }
        }
    }

    fn head_dim(&mut self, model: &ModelShape) {
        if let Some(head_dim) = model.head_dim {
            self.size("model.head_dim", head_dim, MAX_HEAD_DIM);
        } else if model.heads > 0
            && !self.require(model.hidden.is_multiple_of(model.heads), "model.heads", || {
                format!(
                    "must divide model.hidden = {} where model.head_dim is not given, found {}",
                    model.hidden, model.heads
                )
            })
        {
            return;
        }
        let width = model.head_width();
        self.require(width.is_multiple_of(2), "model.head_dim", || {
            format!("must be even, because RoPE turns pairs of elements; found {width}")
        });
    }

    fn pattern(&mut self, model: &ModelShape, pattern: &PatternKeys) {
        self.size("model.pattern.period", pattern.period, LayerPattern::MAX_PERIOD);
        for (name, layers) in [("no_rope", &pattern.no_rope), ("sliding", &pattern.sliding)] {
            for &layer in layers {
                self.require(layer < pattern.period, format!("model.pattern.{name}"), || {
                    format!("expected layers below model.pattern.period = {}, found {layer}", pattern.period)
                });
            }
        }
        self.require(pattern.sliding.is_empty() || model.window.is_some(), "model.window", || {
            "expected the window of model.pattern.sliding, in positions, found none".into()
        });
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
fn yes() -> bool {
    true
}
fn is_off(value: &bool) -> bool {
    !value
}

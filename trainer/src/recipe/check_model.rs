//! Checks of a recipe's `[model]` table.

use super::check::{Faults, MAX_CONTEXT, Range};
use super::{ModelShape, PatternKeys, RopeScalingKeys};
use thimble_converter::config::Family;
use thimble_runtime::format::LayerPattern;

/// Largest accepted sizes: with all of them at once, parameters and FLOPs still fit 64 bits.
const MAX_HIDDEN: usize = 1 << 16;
const MAX_FFN: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 12;
const MAX_HEAD_DIM: usize = 1 << 12;
const MAX_VOCAB: usize = 1 << 31;
/// Largest sliding window and context of pretraining, and largest factor of a scaling: those of the file format.
const MAX_POSITIONS: usize = 1 << 20;
const MAX_FACTOR: f64 = 1e6;
const MIN_FACTOR: f64 = 1e-6;

impl Faults {
    pub(super) fn model(&mut self, model: &ModelShape) {
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
            self.rope_scaling(model, scaling);
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
        if let Err(error) = Family::of(&model.config()) {
            self.require(false, "model", || format!("no format can hold the trained model: {error}"));
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

    fn rope_scaling(&mut self, model: &ModelShape, scaling: &RopeScalingKeys) {
        let key = |name: &str| format!("model.rope_scaling.{name}");
        let mut between = |name: &str, value: f64, low: f64| {
            // False for NaN.
            let holds = (low..=MAX_FACTOR).contains(&value);
            self.require(holds, key(name), || format!("expected {low} to {MAX_FACTOR}, found {value}"))
        };
        match *scaling {
            RopeScalingKeys::Linear { factor } => {
                between("factor", factor, 1.0);
            }
            RopeScalingKeys::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                between("factor", factor, 1.0);
                between("low_freq_factor", low_freq_factor, MIN_FACTOR);
                between("high_freq_factor", high_freq_factor, MIN_FACTOR);
                self.require(low_freq_factor < high_freq_factor, key("high_freq_factor"), || {
                    format!(
                        "expected more than low_freq_factor = {low_freq_factor}, found {high_freq_factor}"
                    )
                });
                self.size(key("original_context"), original_context as usize, MAX_POSITIONS);
            }
            RopeScalingKeys::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
                ..
            } => {
                between("factor", factor, 1.0);
                between("beta_slow", beta_slow, MIN_FACTOR);
                between("beta_fast", beta_fast, beta_slow);
                if let Some(factor) = attention_factor {
                    between("attention_factor", factor, MIN_FACTOR);
                }
                self.size(key("original_context"), original_context as usize, MAX_POSITIONS);
                self.require(model.rope_theta > 1.0, "model.rope_theta", || {
                    format!("expected more than 1 for YaRN, found {}", model.rope_theta)
                });
            }
        }
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

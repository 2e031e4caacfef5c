//! RoPE's scaling in a recipe: its keys, what they mean and their checks.

use super::check::{Faults, MAX_POSITIONS};
use super::decimal::decimal;
use serde::{Deserialize, Serialize};
use thimble_runtime::format::RopeScaling;

/// Largest and smallest factor of a scaling: those of the file format.
const MAX_FACTOR: f64 = 1e6;
const MIN_FACTOR: f64 = 1e-6;

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

impl RopeScalingKeys {
    /// The keys of a described model's scaling; none without one.
    pub(super) fn of(scaling: &RopeScaling) -> Option<RopeScalingKeys> {
        Some(match *scaling {
            RopeScaling::None => return None,
            RopeScaling::Linear { factor } => RopeScalingKeys::Linear { factor: decimal(factor) },
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                RopeScalingKeys::Llama3 {
                    factor: decimal(factor),
                    low_freq_factor: decimal(low_freq_factor),
                    high_freq_factor: decimal(high_freq_factor),
                    original_context,
                }
            }
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => RopeScalingKeys::Yarn {
                factor: decimal(factor),
                original_context,
                beta_fast: decimal(beta_fast),
                beta_slow: decimal(beta_slow),
                attention_factor: Some(decimal(attention_factor)),
                truncate,
            },
        })
    }

    /// The scaling in a model's description.
    pub(super) fn scaling(&self) -> RopeScaling {
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

impl Faults {
    pub(super) fn rope_scaling(&mut self, theta: f64, scaling: &RopeScalingKeys) {
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
                self.require(theta > 1.0, "model.rope_theta", || {
                    format!("expected more than 1 for YaRN, found {theta}")
                });
            }
        }
    }
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

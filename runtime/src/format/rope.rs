//! The rotary position embedding: its frequencies and their scaling for long contexts.

use super::FormatError;
use core::f32::consts::PI;
use core::fmt;

/// The parameters of RoPE (Su et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParameters {
    /// The base of the frequencies.
    pub theta: f32,
    /// How the frequencies are scaled for contexts longer than those of pretraining.
    pub scaling: RopeScaling,
}

/// A scaling of RoPE's frequencies, with the parameters of transformers' `rope_parameters`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    #[default]
    None,
    /// All frequencies divided by a factor (Chen et al. 2023, position interpolation).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Long wavelengths divided by a factor, short ones kept, those between interpolated (Llama 3.1).
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f32,
        /// `original_context` over this is the shortest long wavelength.
        low_freq_factor: f32,
        /// `original_context` over this is the longest short wavelength.
        high_freq_factor: f32,
        /// Context of pretraining, positions.
        original_context: u32,
    },
    /// Interpolation that depends on the rotations within the context of pretraining (Peng et al. 2023).
    Yarn {
        /// The divisor of frequencies with few rotations.
        factor: f32,
        /// Context of pretraining, positions.
        original_context: u32,
        /// Frequencies with more rotations are kept.
        beta_fast: f32,
        /// Frequencies with fewer rotations are divided.
        beta_slow: f32,
        /// Factor of cosine and sine, and so the square of it for the scores.
        attention_factor: f32,
        /// Whether the ends of the interpolated range are rounded to whole dimensions.
        truncate: bool,
    },
}

impl RopeParameters {
    /// Parameters without scaling.
    pub const fn new(theta: f32) -> RopeParameters {
        RopeParameters { theta, scaling: RopeScaling::None }
    }

    /// Writes the inverse frequencies, radians per position, `[head_dim / 2]`, to `out`.
    ///
    /// Computed in f32 as transformers does (`modeling_rope_utils.py`): theta^(-2i/d) (Su et al. 2021, eq. 15), scaled.
    pub fn inverse_frequencies(&self, out: &mut [f32]) {
        let half = out.len();
        let power = |i: usize| libm::powf(self.theta, i as f32 / half as f32);
        for (i, out) in out.iter_mut().enumerate() {
            *out = 1.0 / power(i);
        }
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => out.iter_mut().for_each(|frequency| *frequency /= factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let context = original_context as f32;
                for frequency in out {
                    let wavelength = 2.0 * PI / *frequency;
                    if wavelength > context / low_freq_factor {
                        *frequency /= factor;
                    } else if wavelength >= context / high_freq_factor {
                        let smooth =
                            (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                    }
                }
            }
            RopeScaling::Yarn { factor, .. } => {
                let (low, high) = self.yarn_range(half);
                for (i, frequency) in out.iter_mut().enumerate() {
                    let ramp = ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                    let kept = 1.0 - ramp;
                    *frequency = 1.0 / (factor * power(i)) * (1.0 - kept) + *frequency * kept;
                }
            }
        }
    }

    /// The first and last dimensions between which YaRN interpolates (Peng et al. 2023, eq. 18 to 23, as transformers rounds).
    fn yarn_range(&self, half: usize) -> (f32, f32) {
        let RopeScaling::Yarn { original_context, beta_fast, beta_slow, truncate, .. } = self.scaling else {
            return (0.0, 1.0);
        };
        let dim = 2.0 * half as f64;
        let dimension = |rotations: f32| {
            let turns = f64::from(original_context) / (f64::from(rotations) * 2.0 * core::f64::consts::PI);
            dim * libm::log(turns) / (2.0 * libm::log(f64::from(self.theta)))
        };
        let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
        if truncate {
            (low, high) = (libm::floor(low), libm::ceil(high));
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            // As transformers does, against a division by zero.
            high += 0.001;
        }
        (low as f32, high as f32)
    }

    /// Cosine and sine of the rotation at `position`, times the attention factor.
    pub fn rotation(&self, position: usize, inverse_frequency: f32) -> [f32; 2] {
        let (sin, cos) = libm::sincosf(position as f32 * inverse_frequency);
        let factor = self.attention_factor();
        [cos * factor, sin * factor]
    }

    /// The factor of cosine and sine: 1 but for YaRN.
    pub fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// Checks that every parameter is in its range.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        // Bounds what a rotation can overflow to.
        let number = |field, value: f32, low: f32, high: f32, expected| {
            let fits = value.is_finite() && (low..=high).contains(&value);
            fits.then_some(()).ok_or(FormatError::ConfigNumber { field, expected, found: value })
        };
        let factor = |value| number("RoPE factor", value, 1.0, 1e6, "finite, 1 to 1,000,000");
        let context = |value: u32| {
            let fits = (1..=1 << 20).contains(&value);
            let (field, expected) = ("RoPE original context", "1 to 1,048,576");
            fits.then_some(()).ok_or(FormatError::Config { field, expected, found: u64::from(value) })
        };
        number("RoPE theta", self.theta, 1.0, f32::MAX, "finite and at least 1")?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor: value } => factor(value),
            RopeScaling::Llama3 { factor: value, low_freq_factor, high_freq_factor, original_context } => {
                factor(value)?;
                context(original_context)?;
                let expected = "above 0, and the low below the high one";
                number("RoPE low frequency factor", low_freq_factor, 1e-6, 1e6, expected)?;
                let above = low_freq_factor * (1.0 + 1e-6);
                number("RoPE high frequency factor", high_freq_factor, above, 1e6, expected)
            }
            RopeScaling::Yarn {
                factor: value,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
                ..
            } => {
                factor(value)?;
                context(original_context)?;
                number("RoPE theta", self.theta, 1.0 + 1e-6, f32::MAX, "above 1 for YaRN")?;
                let expected = "above 0, and the slow one not above the fast one";
                number("YaRN beta slow", beta_slow, 1e-6, 1e6, expected)?;
                number("YaRN beta fast", beta_fast, beta_slow, 1e6, expected)?;
                number("YaRN attention factor", attention_factor, 1e-6, 1e6, "above 0")
            }
        }
    }

    /// The words of the configuration section from [`RopeScaling`]'s first on: kind, factor, original context and three more.
    pub(super) fn scaling_words(&self) -> [u32; 6] {
        match self.scaling {
            RopeScaling::None => [0; 6],
            RopeScaling::Linear { factor } => [1, factor.to_bits(), 0, 0, 0, 0],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => [
                2,
                factor.to_bits(),
                original_context,
                low_freq_factor.to_bits(),
                high_freq_factor.to_bits(),
                0,
            ],
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => {
                let kind = if truncate { 3 } else { 4 };
                let [fast, slow] = [beta_fast, beta_slow].map(f32::to_bits);
                [kind, factor.to_bits(), original_context, fast, slow, attention_factor.to_bits()]
            }
        }
    }

    /// The parameters with these words of scaling; `None` unless [`RopeParameters::scaling_words`] makes them.
    pub(super) fn parse(theta: f32, words: [u32; 6]) -> Option<RopeParameters> {
        let number = |index: usize| f32::from_bits(words[index]);
        let (factor, original_context) = (number(1), words[2]);
        let scaling = match words[0] {
            0 => RopeScaling::None,
            1 => RopeScaling::Linear { factor },
            2 => RopeScaling::Llama3 {
                factor,
                original_context,
                low_freq_factor: number(3),
                high_freq_factor: number(4),
            },
            kind @ (3 | 4) => RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast: number(3),
                beta_slow: number(4),
                attention_factor: number(5),
                truncate: kind == 3,
            },
            _ => return None,
        };
        let found = RopeParameters { theta, scaling };
        (found.scaling_words() == words).then_some(found)
    }
}

impl fmt::Display for RopeScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RopeScaling::None => f.write_str("none"),
            RopeScaling::Linear { factor } => write!(f, "linear, factor {factor}"),
            RopeScaling::Llama3 { factor, original_context, .. } => {
                write!(f, "Llama 3, factor {factor} from a context of {original_context}")
            }
            RopeScaling::Yarn { factor, original_context, .. } => {
                write!(f, "YaRN, factor {factor} from a context of {original_context}")
            }
        }
    }
}

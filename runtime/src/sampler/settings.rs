//! Sampling settings.

use thiserror::Error;

/// Sampling settings. The default is greedy without penalties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Draw from this many most likely tokens.
    pub top_k: Option<usize>,
    /// Draw from the fewest most likely tokens with this total probability.
    pub top_p: Option<f32>,
    /// Draw from tokens with at least this fraction of the most likely token's probability.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens in the penalty window; 1 has no effect.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each occurrence in the penalty window; 0 has no effect.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token in the penalty window; 0 has no effect.
    pub presence_penalty: f32,
    /// Length of the penalty window, latest tokens; `None` for the whole history.
    pub penalty_window: Option<usize>,
    /// Seed of the random number generator.
    pub seed: u64,
}

impl Sampling {
    /// Greedy, without penalties.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: None,
        top_p: None,
        min_p: None,
        repetition_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        penalty_window: Some(64),
        seed: 0,
    };

    /// The default for chat answers if neither the user nor the model specifies settings; measured in
    /// `benches/SAMPLING.md`.
    pub const ANSWER: Sampling =
        Sampling { temperature: 0.2, top_p: Some(0.9), repetition_penalty: 1.05, ..Sampling::GREEDY };

    /// The default for text completion without a chat template, likewise.
    pub const CONTINUATION: Sampling = Sampling { temperature: 0.7, top_p: Some(0.95), ..Sampling::GREEDY };
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling::GREEDY
    }
}

/// An invalid sampling setting.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A number is out of range.
    #[error("{setting} is {found}, expected {expected}")]
    Range {
        /// The setting's name.
        setting: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: f32,
    },
    /// Top-k is 0.
    #[error("top-k is 0, expected at least 1: leave it out to draw from all tokens")]
    TopKZero,
    /// A logit bias is NaN or plus infinity.
    #[error("the logit bias of token {token} is {found}, expected a finite number or minus infinity")]
    Bias {
        /// The token's id.
        token: u32,
        /// Its bias.
        found: f32,
    },
}

impl Sampling {
    /// Checks the range of every setting.
    ///
    /// # Errors
    /// [`SamplingError`].
    pub fn check(&self) -> Result<(), SamplingError> {
        let range = |setting, found: f32, fits: bool, expected| {
            let error = SamplingError::Range { setting, expected, found };
            (fits && found.is_finite()).then_some(()).ok_or(error)
        };
        range("temperature", self.temperature, self.temperature >= 0.0, "0 (greedy) or more")?;
        if self.top_k == Some(0) {
            return Err(SamplingError::TopKZero);
        }
        if let Some(p) = self.top_p {
            range("top-p", p, p > 0.0 && p <= 1.0, "more than 0 and at most 1")?;
        }
        if let Some(p) = self.min_p {
            range("min-p", p, (0.0..=1.0).contains(&p), "0 to 1")?;
        }
        let penalty = self.repetition_penalty;
        range("repetition penalty", penalty, penalty > 0.0, "more than 0 (1 does nothing)")?;
        range("frequency penalty", self.frequency_penalty, true, "a finite number")?;
        range("presence penalty", self.presence_penalty, true, "a finite number")
    }

    /// Whether a penalty has an effect.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

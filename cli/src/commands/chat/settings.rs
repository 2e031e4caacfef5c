//! What a chat's flags and `/set` decide about answers.

use super::markdown::Look;
use crate::flags::numbers::at_least_one;
use crate::flags::sampling::SamplingFlags;
use crate::flags::thinking::Thinking;
use clap::ValueEnum;
use thimble_runtime::sampler::Sampling;

/// The names that `/set` takes.
pub(super) const NAMES: [&str; 13] = {
    let mut names = ["system", "max-tokens", "thinking", "stop", "markdown", "", "", "", "", "", "", "", ""];
    let mut at = 0;
    while at < SamplingFlags::SETTINGS.len() {
        names[5 + at] = SamplingFlags::SETTINGS[at];
        at += 1;
    }
    names
};

/// Longest answer if nothing sets one: small models may never stop.
const MAX_TOKENS: usize = 1024;

/// How answers are made and shown.
#[derive(Clone, Debug)]
pub(super) struct ChatSettings {
    pub(super) sampling: SamplingFlags,
    pub(super) max_tokens: usize,
    pub(super) thinking: Option<Thinking>,
    pub(super) stops: Vec<String>,
    /// How answers look on a terminal.
    pub(super) look: Option<Look>,
}

impl ChatSettings {
    /// Settings of the flags; `max_tokens` where there is one.
    pub(super) fn new(sampling: SamplingFlags, max_tokens: Option<usize>) -> ChatSettings {
        let max_tokens = max_tokens.unwrap_or(MAX_TOKENS);
        ChatSettings { sampling, max_tokens, thinking: None, stops: Vec::new(), look: None }
    }

    /// Sets what has this name to a value, or to its default; false for another name.
    ///
    /// # Errors
    /// What the setting expects.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match name {
            "max-tokens" => self.max_tokens = value.map_or(Ok(MAX_TOKENS), at_least_one)?,
            "thinking" => {
                let mode = |value| Thinking::from_str(value, true);
                let expected = |_| "expected on, off or hide".to_string();
                self.thinking = value.map(mode).transpose().map_err(expected)?;
            }
            "stop" => self.stops = value.into_iter().map(str::to_string).collect(),
            "markdown" => {
                let plain = match value {
                    None | Some("on") => false,
                    Some("off") => true,
                    Some(_) => return Err("expected on or off".to_string()),
                };
                self.look = Look::of_stdout(plain);
            }
            name => return self.sampling.set(name, value),
        }
        Ok(true)
    }

    /// Each setting but the system prompt with its value; `sampling` is what the flags and the model make of it.
    pub(super) fn values(&self, sampling: &Sampling) -> Vec<(&'static str, String)> {
        let thinking = self.thinking.and_then(|mode| mode.to_possible_value());
        let thinking = thinking.map_or_else(|| "default".to_string(), |mode| mode.get_name().to_string());
        let or_off = |value: Option<f32>, off: f32| value.unwrap_or(off).to_string();
        let stops = self.stops.iter().map(|stop| format!("{stop:?}")).collect::<Vec<_>>().join(" ");
        vec![
            ("temperature", sampling.temperature.to_string()),
            ("top-k", sampling.top_k.unwrap_or(0).to_string()),
            ("top-p", or_off(sampling.top_p, 1.0)),
            ("min-p", or_off(sampling.min_p, 0.0)),
            ("repetition-penalty", sampling.repetition_penalty.to_string()),
            ("frequency-penalty", sampling.frequency_penalty.to_string()),
            ("presence-penalty", sampling.presence_penalty.to_string()),
            ("seed", sampling.seed.to_string()),
            ("max-tokens", self.max_tokens.to_string()),
            ("thinking", thinking),
            ("stop", if stops.is_empty() { "none".to_string() } else { stops }),
            ("markdown", if self.look == Some(Look::Plain) { "off" } else { "on" }.to_string()),
        ]
    }
}

/// What to do about a setting of no known name.
pub(super) fn unknown(name: &str) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest = NAMES.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|known| likeness(known) > 0.8) {
        Some(nearest) => format!("there is no setting {name}: did you mean {nearest}?"),
        None => format!("there is no setting {name}: expected one of {}", NAMES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatSettings, NAMES, Sampling, unknown};
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        sampling: super::SamplingFlags,
    }

    fn settings() -> ChatSettings {
        ChatSettings::new(Words::parse_from(["chat", "--temperature", "0.5"]).sampling, Some(7))
    }

    #[test]
    fn every_setting_takes_a_value_and_its_default() {
        let mut settings = settings();
        let value = |name| match name {
            "thinking" => "hide",
            "markdown" => "off",
            "stop" => "x y",
            _ => "1",
        };
        for name in NAMES.into_iter().filter(|&name| name != "system") {
            assert_eq!(settings.set(name, Some(value(name))), Ok(true), "{name}");
            assert!(settings.values(&Sampling::ANSWER).iter().any(|(shown, _)| *shown == name), "{name}");
        }
        assert_eq!((settings.max_tokens, settings.sampling.temperature), (1, Some(1.0)));
        assert_eq!(settings.stops, ["x y"]);
        for name in NAMES.into_iter().filter(|&name| name != "system") {
            assert_eq!(settings.set(name, None), Ok(true), "{name}");
        }
        assert_eq!((settings.max_tokens, settings.sampling.temperature), (1024, None));
        assert!(settings.stops.is_empty() && settings.thinking.is_none());
    }

    #[test]
    fn wrong_values_change_nothing() {
        let mut settings = settings();
        for (name, value, expected) in [
            ("temperature", "-1", "at least 0"),
            ("temperature", "x", "at least 0"),
            ("top-p", "1.5", "from 0 to 1"),
            ("max-tokens", "0", "at least 1"),
            ("thinking", "maybe", "on, off or hide"),
            ("markdown", "x", "on or off"),
            ("seed", "-1", "whole number"),
        ] {
            let sentence = settings.set(name, Some(value)).unwrap_err();
            assert!(sentence.contains(expected), "{name}: {sentence}");
        }
        assert_eq!((settings.max_tokens, settings.sampling.temperature), (7, Some(0.5)));
        assert_eq!(settings.set("temprature", Some("1")), Ok(false));
        assert!(unknown("temprature").contains("did you mean temperature?"));
        assert!(unknown("x").contains("expected one of system, max-tokens"));
    }
}

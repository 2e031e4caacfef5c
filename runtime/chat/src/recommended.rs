//! The sampling settings that a model's authors recommend, from the provenance of the model file.

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::hash::{BuildHasher, RandomState};
use thimble_runtime::format::ModelFile;
use thimble_runtime::sampler::Sampling;

/// Sampling settings recommended for a model; `None` where there is no recommendation. Values are in range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecommendedSampling {
    /// [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// [`Sampling::top_k`]; 0 is all tokens.
    pub top_k: Option<usize>,
    /// [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
}

/// The part of the provenance that is used.
#[derive(Deserialize)]
struct Provenance {
    #[serde(default)]
    sampling: Json,
}

impl RecommendedSampling {
    /// Reads `sampling` in the file's provenance; empty if it is missing or not JSON.
    pub fn of(file: &ModelFile<'_>) -> RecommendedSampling {
        let provenance = serde_json::from_str(file.provenance());
        provenance.map_or_else(
            |_| RecommendedSampling::default(),
            |p: Provenance| RecommendedSampling::read(&p.sampling),
        )
    }

    /// Reads an object with the keys of transformers' `generation_config.json`. `do_sample: false` means temperature 0.
    /// Other keys, and values out of range, are ignored.
    pub fn read(json: &Json) -> RecommendedSampling {
        let number = |key: &str, set: fn(&mut Sampling, f32)| {
            let found = json.get(key)?.as_f64()? as f32;
            let mut alone = Sampling::default();
            set(&mut alone, found);
            alone.check().ok().map(|()| found)
        };
        let greedy = json.get("do_sample") == Some(&Json::Bool(false));
        RecommendedSampling {
            temperature: match greedy {
                true => Some(0.0),
                false => number("temperature", |s, found| s.temperature = found),
            },
            top_k: json.get("top_k").and_then(Json::as_u64).and_then(|k| usize::try_from(k).ok()),
            top_p: number("top_p", |s, found| s.top_p = Some(found)),
            min_p: number("min_p", |s, found| s.min_p = Some(found)),
            repetition_penalty: number("repetition_penalty", |s, found| s.repetition_penalty = found),
        }
    }

    /// The object that [`RecommendedSampling::read`] reads; empty if nothing is set.
    pub fn to_json(&self) -> Map<String, Json> {
        // The shortest decimal of the f32: a conversion to f64 would show its rounding error.
        let number = |number: f32| number.to_string().parse::<f64>().map_or(Json::Null, Json::from);
        let numbers = [
            ("temperature", self.temperature.map(number)),
            ("top_k", self.top_k.map(Json::from)),
            ("top_p", self.top_p.map(number)),
            ("min_p", self.min_p.map(number)),
            ("repetition_penalty", self.repetition_penalty.map(number)),
        ];
        numbers.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// These settings, and `defaults` where they are `None`.
    pub fn over(&self, defaults: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.map_or(defaults.top_k, |k| Some(k).filter(|&k| k > 0)),
            top_p: self.top_p.or(defaults.top_p),
            min_p: self.min_p.or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            ..defaults
        }
    }
}

/// A seed from the randomness that the standard library gives every hash map, below 2^32: short enough to type again.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

#[cfg(test)]
mod tests {
    use super::RecommendedSampling;
    use serde_json::{Value, json};
    use thimble_runtime::sampler::Sampling;

    const ALL: RecommendedSampling = RecommendedSampling {
        temperature: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.95),
        min_p: Some(0.05),
        repetition_penalty: Some(1.05),
    };

    #[test]
    fn settings_come_back_with_the_digits_that_were_written() {
        let json = Value::Object(ALL.to_json());
        let keys = r#"{"min_p":0.05,"repetition_penalty":1.05,"temperature":0.6,"top_k":20,"top_p":0.95}"#;
        assert_eq!(json, serde_json::from_str::<Value>(keys).unwrap());
        assert_eq!(RecommendedSampling::read(&json), ALL);
        assert!(RecommendedSampling::default().to_json().is_empty());
    }

    #[test]
    fn what_is_out_of_range_or_of_another_type_is_left_out() {
        let wrong = json!({
            "temperature": -1, "top_k": -5, "top_p": 1.5, "min_p": "0.1", "repetition_penalty": 0, "eos_token_id": 2,
        });
        for json in [wrong, json!({"temperature": 1e60, "top_p": 0}), json!([]), json!(null), json!("x")] {
            assert_eq!(RecommendedSampling::read(&json), RecommendedSampling::default(), "{json}");
        }
    }

    #[test]
    fn a_model_that_does_not_sample_takes_the_likeliest_token() {
        let greedy = RecommendedSampling::read(&json!({"do_sample": false, "temperature": 0.7}));
        assert_eq!(greedy.temperature, Some(0.0));
        let warm = RecommendedSampling::read(&json!({"do_sample": true, "temperature": 0.7}));
        assert_eq!(warm.temperature, Some(0.7));
    }

    #[test]
    fn the_file_comes_before_the_defaults() {
        let defaults = Sampling { temperature: 0.2, top_k: Some(7), seed: 3, ..Sampling::default() };
        assert_eq!(RecommendedSampling::default().over(defaults), defaults);
        let all = ALL.over(defaults);
        assert_eq!((all.temperature, all.top_k, all.top_p, all.seed), (0.6, Some(20), Some(0.95), 3));
        assert_eq!(RecommendedSampling { top_k: Some(0), ..ALL }.over(defaults).top_k, None);
    }
}

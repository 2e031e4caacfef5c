//! Models of tests/golden/families.py; transformers computed what they make of some tokens.

use super::tiny::{Folder, Random, TEMPLATE, float_bytes, tokenizer_json};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use thimble_converter::BlockType;

/// One model and what it makes of `tokens`.
#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) name: String,
    seed: u64,
    pub(super) config: Json,
    /// Names and shapes, with the classes' own names.
    pub(super) tensors: BTreeMap<String, Vec<usize>>,
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    /// The logits after the prompt.
    pub(super) prompt: Vec<f64>,
    /// The logits after the last token.
    pub(super) last: Vec<f64>,
}

/// All of them.
pub(super) fn all() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../golden/families.json")).unwrap()
}

/// The one whose name begins so.
pub(super) fn named(name: &str) -> Golden {
    all().into_iter().find(|golden| golden.name.starts_with(name)).unwrap()
}

impl Golden {
    /// The numbers of a tensor, as `weights` in families.py makes them.
    fn numbers(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let mut random = Random(name.bytes().fold(self.seed, |h, b| (h * 31) % 1_000_003 + u64::from(b)));
        let number = |i: usize| {
            if name.ends_with("norm.weight") {
                return 1.0 + (random.below(64) as f32 - 32.0) / 64.0;
            }
            let n = random.below(255) as f32 - 127.0;
            let end = shape.len() == 2 && (i % shape[1]).is_multiple_of(32);
            (if end { 127.0f32.copysign(n) } else { n }) / 512.0
        };
        (0..shape.iter().product()).map(number).collect()
    }

    /// The model as a Hugging Face folder whose weights are of one type.
    pub(super) fn folder(&self, kind: BlockType) -> Folder {
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            (name.clone(), kind, shape.clone(), float_bytes(kind, &self.numbers(name, shape)))
        };
        Folder {
            config: self.config.clone(),
            tokenizer: tokenizer_json(self.config["vocab_size"].as_u64().unwrap() as usize),
            tokenizer_config: json!({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}),
            tensors: self.tensors.iter().map(tensor).collect(),
        }
    }
}

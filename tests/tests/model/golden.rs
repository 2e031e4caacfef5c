//! The models of tests/golden/model.json: their weights are made here from the tensors' names, by the rule of
//! tests/golden/model.py; what they make of some tokens was computed there.

use super::tiny::{Folder, Random, TEMPLATE, float_bytes, tokenizer_json};
use conformance::converted;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use thimble_converter::{BlockType, Quant};
use thimble_files::MappedModel;
use thimble_runtime::Token;

/// One model and what it makes of `tokens`.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) name: String,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    pub(crate) vocab: usize,
    tied: bool,
    theta: f64,
    eps: f64,
    tokens: Vec<u32>,
    bytes: Values,
    nibbles: Values,
}

/// What numpy computed in f64.
#[derive(Deserialize)]
pub(crate) struct Values {
    pub(crate) last_logits: Vec<f64>,
    pub(crate) token_logprobs: Vec<f64>,
    /// Hidden states, pooled to a vector of length 1: the mean, and that of the last token.
    pub(crate) mean_embedding: Vec<f64>,
    pub(crate) last_embedding: Vec<f64>,
}

/// Where the matrices' numbers lie (embedding and head: always bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// -127/512 to 127/512: exact in f32, f16, bf16 and q8.
    Bytes,
    /// -8/32 to 7/32: exact in f32, f16, bf16, q4 and q4min.
    Nibbles,
}

/// Every encoding on the grid that it holds exactly.
pub(crate) const RECIPES: [(Grid, Quant); 7] = [
    (Grid::Bytes, Quant::F32),
    (Grid::Bytes, Quant::F16),
    (Grid::Bytes, Quant::BF16),
    (Grid::Bytes, Quant::Q8),
    (Grid::Nibbles, Quant::F16),
    (Grid::Nibbles, Quant::Q4Even),
    (Grid::Nibbles, Quant::Q4Min),
];

/// All of them.
pub(crate) fn all() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../golden/model.json")).expect("the golden file")
}

/// Numbers of one tensor, `[rows, columns]`; a vector has no rows.
fn numbers(name: &str, rows: Option<usize>, columns: usize, grid: Grid) -> Vec<f32> {
    let mut random = Random(name.bytes().fold(7, |h, b| h * 31 % 1_000_003 + u64::from(b)));
    let number = |i: usize| {
        if rows.is_none() {
            return 1.0 + (random.below(64) as f32 - 32.0) / 64.0;
        }
        match (grid, i % columns % 32) {
            (Grid::Bytes, at) => {
                let n = random.below(255) as f32 - 127.0;
                let ends = if n < 0.0 { -127.0 } else { 127.0 };
                (if at == 0 { ends } else { n }) / 512.0
            }
            (Grid::Nibbles, at) => {
                let n = random.below(16) as f32;
                (if at == 0 {
                    0.0
                } else if at == 1 {
                    15.0
                } else {
                    n
                } - 8.0)
                    / 32.0
            }
        }
    };
    (0..rows.unwrap_or(1) * columns).map(number).collect()
}

impl Golden {
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.tokens.iter().copied().map(Token).collect()
    }

    pub(crate) fn values(&self, grid: Grid) -> &Values {
        match grid {
            Grid::Bytes => &self.bytes,
            Grid::Nibbles => &self.nibbles,
        }
    }

    /// Name and shape of every tensor.
    fn tensors(&self) -> Vec<(String, Option<usize>, usize)> {
        let (hidden, q, kv) = (self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![("model.embed_tokens".to_owned(), Some(self.vocab), hidden)];
        for layer in 0..self.layers {
            let parts = [
                ("input_layernorm", None, hidden),
                ("self_attn.q_proj", Some(q), hidden),
                ("self_attn.k_proj", Some(kv), hidden),
                ("self_attn.v_proj", Some(kv), hidden),
                ("self_attn.o_proj", Some(hidden), q),
                ("post_attention_layernorm", None, hidden),
                ("mlp.gate_proj", Some(self.ffn), hidden),
                ("mlp.up_proj", Some(self.ffn), hidden),
                ("mlp.down_proj", Some(hidden), self.ffn),
            ];
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            all.extend(parts.map(|(part, rows, columns)| (name(part), rows, columns)));
        }
        all.push(("model.norm".to_owned(), None, hidden));
        if !self.tied {
            all.push(("lm_head".to_owned(), Some(self.vocab), hidden));
        }
        all
    }

    /// The model as a Hugging Face folder in f32.
    pub(crate) fn folder(&self, grid: Grid) -> Folder {
        let tensor = |(name, rows, columns): (String, Option<usize>, usize)| {
            let edge = name.ends_with("embed_tokens") || name == "lm_head";
            let name = format!("{name}.weight");
            let numbers = numbers(&name, rows, columns, if edge { Grid::Bytes } else { grid });
            let shape = rows.into_iter().chain([columns]).collect();
            (name, BlockType::F32, shape, float_bytes(BlockType::F32, &numbers))
        };
        Folder {
            config: json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "hidden_size": self.hidden, "intermediate_size": self.ffn, "head_dim": self.head_dim,
                "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
                "max_position_embeddings": 512, "rms_norm_eps": self.eps, "rope_theta": self.theta,
                "tie_word_embeddings": self.tied, "bos_token_id": 1, "eos_token_id": 2,
            }),
            tokenizer: tokenizer_json(self.vocab),
            tokenizer_config: json!({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}),
            tensors: self.tensors().into_iter().map(tensor).collect(),
        }
    }

    /// The model, converted in `folder` without any rounding.
    pub(crate) fn model(&self, grid: Grid, quant: Quant, folder: &Path) -> MappedModel {
        self.folder(grid).write(folder, 1);
        let (model, summary) = converted(folder, &folder.join("model.thimble"), quant);
        let worst = &summary.worst;
        assert_eq!(summary.rounding, 0.0, "{}: {quant} holds {grid:?} exactly, but {worst:?}", self.name);
        model
    }
}

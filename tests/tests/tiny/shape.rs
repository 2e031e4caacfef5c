//! Shapes of tiny models, and their random weights.

use serde_json::{Value as Json, json};
use thimble_converter::BlockType;

/// The shape of a tiny model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub tied: bool,
}

/// Odd heads, a feed-forward size that is no multiple of 32, rows that are no multiple of 16.
pub const ODD: Shape =
    Shape { hidden: 96, layers: 2, heads: 3, kv_heads: 1, ffn: 70, vocab: 300, tied: true };
/// Rows of whole 32-blocks.
pub const BLOCKS: Shape = Shape { ffn: 160, ..ODD };
/// Rows of whole 256-blocks.
pub const SUPER: Shape =
    Shape { hidden: 256, layers: 1, heads: 2, kv_heads: 1, ffn: 256, vocab: 300, tied: true };

/// Both names and shape of one tensor; a vector has no rows.
#[derive(Clone, Debug)]
pub struct Spec {
    pub hub: String,
    pub gguf: String,
    pub rows: Option<usize>,
    pub columns: usize,
    /// Heads, for Q and K.
    pub rotary: Option<usize>,
}

impl Shape {
    /// Every tensor, in the order of the file format's table.
    pub fn tensors(&self) -> Vec<Spec> {
        let kv = self.hidden / self.heads * self.kv_heads;
        let spec = |hub: &str, gguf: &str, rows, columns, rotary| Spec {
            hub: format!("{hub}.weight"),
            gguf: format!("{gguf}.weight"),
            rows,
            columns,
            rotary,
        };
        let (h, f) = (self.hidden, self.ffn);
        let mut all = vec![spec("model.embed_tokens", "token_embd", Some(self.vocab), h, None)];
        for layer in 0..self.layers {
            let part = |hub: &str, gguf: &str, rows, columns, rotary| {
                let (hub, gguf) = (format!("model.layers.{layer}.{hub}"), format!("blk.{layer}.{gguf}"));
                spec(&hub, &gguf, rows, columns, rotary)
            };
            all.extend([
                part("input_layernorm", "attn_norm", None, h, None),
                part("self_attn.q_proj", "attn_q", Some(h), h, Some(self.heads)),
                part("self_attn.k_proj", "attn_k", Some(kv), h, Some(self.kv_heads)),
                part("self_attn.v_proj", "attn_v", Some(kv), h, None),
                part("self_attn.o_proj", "attn_output", Some(h), h, None),
                part("post_attention_layernorm", "ffn_norm", None, h, None),
                part("mlp.gate_proj", "ffn_gate", Some(f), h, None),
                part("mlp.up_proj", "ffn_up", Some(f), h, None),
                part("mlp.down_proj", "ffn_down", Some(h), f, None),
            ]);
        }
        all.push(spec("model.norm", "output_norm", None, h, None));
        if !self.tied {
            all.push(spec("lm_head", "output", Some(self.vocab), h, None));
        }
        all
    }

    /// config.json of this shape.
    pub fn config(&self) -> Json {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": self.hidden, "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 50000.0,
            "rope_scaling": null, "attention_bias": false, "mlp_bias": false,
            "tie_word_embeddings": self.tied, "bos_token_id": 1, "eos_token_id": [2, 0],
        })
    }
}

impl Spec {
    /// Numbers in the tensor.
    pub fn count(&self) -> usize {
        self.rows.unwrap_or(1) * self.columns
    }

    /// Its random numbers, always the same for the same name; exact in bf16 and f16.
    pub fn values(&self) -> Vec<f32> {
        let mut random = Random(self.hub.bytes().fold(7, |h, b| h * 31 % 1_000_003 + u64::from(b)));
        (0..self.count()).map(|_| (random.below(255) as f32 - 127.0) / 512.0).collect()
    }

    /// Puts rows into the order of llama.cpp's converter: `reshape(heads, 2, dim / 2, columns).swapaxes(1, 2)`.
    pub fn llama_cpp_order<T: Copy>(&self, row_len: usize, rows: &[T]) -> Vec<T> {
        let Some(heads) = self.rotary else { return rows.to_vec() };
        let dim = self.rows.unwrap() / heads;
        let mut out = Vec::new();
        for head in 0..heads {
            for pair in 0..dim / 2 {
                for half in 0..2 {
                    let row = head * dim + half * dim / 2 + pair;
                    out.extend_from_slice(&rows[row * row_len..][..row_len]);
                }
            }
        }
        out
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// f32 numbers in the bytes of a float type.
pub fn float_bytes(kind: BlockType, values: &[f32]) -> Vec<u8> {
    match kind {
        BlockType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        BlockType::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        BlockType::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        other => panic!("{other} is no float type"),
    }
}

/// Random blocks whose scales are finite and of a sensible size.
pub fn random_blocks(kind: BlockType, spec: &Spec) -> Vec<u8> {
    let mut random = Random(spec.gguf.len() as u64 + 1000 * kind as u64);
    let size = spec.rows.unwrap_or(1) * kind.row_bytes(spec.columns).unwrap();
    let mut out: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
    let scales: &[usize] = match kind {
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
        BlockType::Q2_K => &[80, 82],
        BlockType::Q3_K => &[108],
        BlockType::Q6_K => &[208],
        _ => &[0],
    };
    for block in out.chunks_exact_mut(kind.block_bytes()) {
        for &at in scales {
            let scale = (random.below(2001) as f32 - 1000.0) / 20_000.0;
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
        }
    }
    out
}

//! Tiny random Llama models, written by the test itself as a Hugging Face folder or as GGUF bytes.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
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

pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
pub const TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ \
    '<|im_start|>assistant\n' }}{% endif %}";

/// The tokens of a byte-level vocabulary of `size` tokens, in GPT-2's spelling, and its merges.
pub fn vocabulary(size: usize) -> (Vec<String>, Vec<String>) {
    let mut tokens: Vec<String> = SPECIAL.iter().map(|&t| t.to_owned()).collect();
    let plain = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let other = (0..256u32).filter(|b| !plain(b)).zip(256..).map(|(_, letter)| letter);
    let letters = (0..256).filter(plain).chain(other);
    tokens.extend(letters.filter_map(char::from_u32).map(String::from));
    let mut merges = Vec::new();
    for pair in (b'a'..=b'z').flat_map(|a| (b'a'..=b'z').map(move |b| [char::from(a), char::from(b)])) {
        if tokens.len() == size {
            break;
        }
        tokens.push(pair.iter().collect());
        merges.push(format!("{} {}", pair[0], pair[1]));
    }
    (tokens, merges)
}

pub fn tokenizer_json(vocab: usize) -> Json {
    let (tokens, merges) = vocabulary(vocab);
    let ids: HashMap<&str, usize> = tokens.iter().map(String::as_str).zip(0..).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers":
            [{"type": "Digits", "individual_digits": true}, level]},
        "post_processor": null,
        "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": ids, "merges": merges},
    })
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

/// A Hugging Face folder that a test can change before it is written.
pub struct Folder {
    pub config: Json,
    pub tokenizer: Json,
    pub tokenizer_config: Json,
    /// Name, type, shape, bytes.
    pub tensors: Vec<(String, BlockType, Vec<usize>, Vec<u8>)>,
}

impl Folder {
    pub fn new(shape: Shape, kind: BlockType) -> Folder {
        let tensor = |spec: Spec| {
            let dimensions = spec.rows.into_iter().chain([spec.columns]).collect();
            (spec.hub.clone(), kind, dimensions, float_bytes(kind, &spec.values()))
        };
        Folder {
            config: shape.config(),
            tokenizer: tokenizer_json(shape.vocab),
            tokenizer_config: json!({
                "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "chat_template": TEMPLATE}),
            tensors: shape.tensors().into_iter().map(tensor).collect(),
        }
    }

    /// Writes the folder with its tensors spread over `shards` files.
    pub fn write(&self, folder: &Path, shards: usize) {
        let put = |name: &str, json: &Json| fs::write(folder.join(name), json.to_string()).unwrap();
        put("config.json", &self.config);
        put("tokenizer.json", &self.tokenizer);
        put("tokenizer_config.json", &self.tokenizer_config);
        fs::write(folder.join("README.md"), "---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n").unwrap();
        let mut map = serde_json::Map::new();
        for shard in 0..shards {
            let name = match shards {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
            };
            let tensors = self.tensors.iter().skip(shard).step_by(shards);
            let views: Vec<_> = tensors
                .map(|(tensor, kind, dimensions, bytes)| {
                    map.insert(tensor.clone(), Json::from(name.clone()));
                    let dtype = match kind {
                        BlockType::F32 => safetensors::Dtype::F32,
                        BlockType::F16 => safetensors::Dtype::F16,
                        _ => safetensors::Dtype::BF16,
                    };
                    let view = safetensors::tensor::TensorView::new(dtype, dimensions.clone(), bytes);
                    (tensor.clone(), view.unwrap())
                })
                .collect();
            fs::write(folder.join(&name), safetensors::serialize(views, None).unwrap()).unwrap();
        }
        if shards > 1 {
            put("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": map}));
        }
    }
}

/// A metadata value to be written.
#[derive(Clone, Debug)]
pub enum Meta {
    U16(u16),
    I32(i32),
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// A GGUF file that a test can change before it is written.
#[derive(Clone, Debug)]
pub struct GgufFile {
    pub metadata: Vec<(String, Meta)>,
    /// Name, dimensions innermost first, type number, bytes.
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl GgufFile {
    /// A model whose matrices are of one type; `bytes` makes them, in Hugging Face's row order.
    pub fn new(shape: Shape, kind: BlockType, bytes: impl Fn(&Spec) -> Vec<u8>) -> GgufFile {
        let (tokens, merges) = vocabulary(shape.vocab);
        let types = (0..tokens.len()).map(|id| if id < SPECIAL.len() { 3 } else { 1 }).collect();
        let size = |n: usize| Meta::U32(n as u32);
        let text = |t: &str| Meta::Text(t.to_owned());
        let metadata = [
            ("general.architecture", text("llama")),
            ("general.name", text("Tiny")),
            ("general.license", text("apache-2.0")),
            ("llama.block_count", size(shape.layers)),
            ("llama.context_length", size(512)),
            ("llama.embedding_length", size(shape.hidden)),
            ("llama.feed_forward_length", size(shape.ffn)),
            ("llama.attention.head_count", size(shape.heads)),
            ("llama.attention.head_count_kv", size(shape.kv_heads)),
            ("llama.rope.freq_base", Meta::F32(50000.0)),
            ("llama.rope.dimension_count", size(shape.hidden / shape.heads)),
            ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("smollm")),
            ("tokenizer.ggml.tokens", Meta::Texts(tokens)),
            ("tokenizer.ggml.token_type", Meta::I32s(types)),
            ("tokenizer.ggml.merges", Meta::Texts(merges)),
            ("tokenizer.ggml.bos_token_id", size(1)),
            ("tokenizer.ggml.eos_token_id", size(2)),
            ("tokenizer.ggml.eot_token_id", size(0)),
            ("tokenizer.ggml.add_bos_token", Meta::Bool(false)),
            ("tokenizer.chat_template", text(TEMPLATE)),
        ];
        let tensor = |spec: Spec| {
            let dimensions = [spec.columns].into_iter().chain(spec.rows).map(|d| d as u64).collect();
            match spec.rows {
                None => (spec.gguf.clone(), dimensions, 0, float_bytes(BlockType::F32, &spec.values())),
                Some(_) => {
                    let row = kind.row_bytes(spec.columns).unwrap();
                    let bytes = spec.llama_cpp_order(row, &bytes(&spec));
                    (spec.gguf.clone(), dimensions, kind as u32, bytes)
                }
            }
        };
        GgufFile {
            metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            tensors: shape.tensors().into_iter().map(tensor).collect(),
        }
    }

    /// Replaces or adds a metadata value.
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.to_owned(), value));
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            match value {
                Meta::U16(n) => {
                    out.extend(2u32.to_le_bytes());
                    out.extend(n.to_le_bytes());
                }
                Meta::I32(n) => out.extend([5, *n].iter().flat_map(|n| n.to_le_bytes())),
                Meta::U32(n) => out.extend([4u32, *n].iter().flat_map(|n| n.to_le_bytes())),
                Meta::F32(n) => out.extend([6u32, n.to_bits()].iter().flat_map(|n| n.to_le_bytes())),
                Meta::Bool(b) => out.extend([7, 0, 0, 0, u8::from(*b)]),
                Meta::Text(t) => {
                    out.extend(8u32.to_le_bytes());
                    text(&mut out, t);
                }
                Meta::Texts(texts) => {
                    out.extend([9u32, 8].iter().flat_map(|n| n.to_le_bytes()));
                    out.extend((texts.len() as u64).to_le_bytes());
                    texts.iter().for_each(|t| text(&mut out, t));
                }
                Meta::I32s(numbers) => {
                    out.extend([9u32, 5].iter().flat_map(|n| n.to_le_bytes()));
                    out.extend((numbers.len() as u64).to_le_bytes());
                    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
                }
            }
        }
        let mut offset = 0u64;
        for (name, dimensions, kind, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((dimensions.len() as u32).to_le_bytes());
            out.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += bytes.len().next_multiple_of(32) as u64;
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
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

/// Bytes on a 64-byte boundary, as a mapping has them.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Aligned {
        let mut room = vec![0; bytes.len() + 64];
        let start = room.as_ptr().align_offset(64);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        room.truncate(start + bytes.len());
        Aligned { bytes: room, start }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

//! A tiny model as a GGUF file.

use super::shape::{Shape, Spec, float_bytes};
use super::tokenizer::{SPECIAL, TEMPLATE, vocabulary};
use thimble_converter::BlockType;

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
    Bools(Vec<bool>),
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
                Meta::Bools(flags) => {
                    out.extend([9u32, 7].iter().flat_map(|n| n.to_le_bytes()));
                    out.extend((flags.len() as u64).to_le_bytes());
                    out.extend(flags.iter().map(|&flag| u8::from(flag)));
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

//! A tiny model as a Hugging Face folder.

use super::shape::{Shape, Spec, float_bytes};
use super::tokenizer::{TEMPLATE, tokenizer_json};
use serde_json::{Value as Json, json};
use std::fs;
use std::path::Path;
use thimble_converter::BlockType;

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

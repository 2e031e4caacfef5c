//! To and from a plain Hugging Face folder.

use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::recipe::ModelShape;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::path::Path;

/// The part of a Llama's `config.json` that decides its shape.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    vocab_size: usize,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// The shape that a `config.json` describes.
///
/// # Errors
/// The file is missing, is not a Llama's, or asks for what the engine has not: biases, rope scaling.
pub fn read_config(path: &Path) -> Result<ModelShape> {
    let text = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| Error::Invalid(format!("{}: not a Llama's config.json: {error}", path.display())))?;
    let refuse = |what: &str| Err(Error::Invalid(format!("{}: {what}", path.display())));
    if config.model_type != "llama" {
        return refuse(&format!("model_type is {:?}, only \"llama\" can be trained", config.model_type));
    }
    if config.attention_bias || config.mlp_bias {
        return refuse("projections with biases cannot be trained");
    }
    if config.rope_scaling.is_some() {
        return refuse("rope_scaling cannot be trained");
    }
    Ok(ModelShape {
        hidden: config.hidden_size,
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: config.head_dim,
        ffn: config.intermediate_size,
        vocab: config.vocab_size,
        context: config.max_position_embeddings,
        rope_theta: config.rope_theta.unwrap_or(10_000.0),
        rms_norm_eps: config.rms_norm_eps,
        tied: config.tie_word_embeddings,
        init_std: 0.02,
    })
}

/// The flat buffer of a `model.safetensors` (f32, bf16 or f16) with exactly the tensors of these parameters.
///
/// # Errors
/// The file is missing or damaged, or a tensor is missing, of another shape, or of another type.
pub fn read_weights(path: &Path, parameters: &Parameters) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).map_err(Error::file(path, "read"))?;
    let refuse = |what: String| Error::Invalid(format!("{}: {what}", path.display()));
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| refuse(format!("not a safetensors file: {error}")))?;
    let mut weights = vec![0.0; parameters.len];
    for named in parameters.named() {
        let tensor =
            file.tensor(&named.name).map_err(|_| refuse(format!("tensor {} is missing", named.name)))?;
        if tensor.shape() != named.shape {
            return Err(refuse(format!(
                "tensor {} is {:?}, expected {:?}",
                named.name,
                tensor.shape(),
                named.shape
            )));
        }
        let out = &mut weights[named.range()];
        match tensor.dtype() {
            Dtype::F32 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Dtype::BF16 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = half::bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Dtype::F16 => {
                for (out, bytes) in out.iter_mut().zip(tensor.data().as_chunks().0) {
                    *out = half::f16::from_le_bytes(*bytes).to_f32();
                }
            }
            other => {
                return Err(refuse(format!("tensor {} is {other:?}, expected F32, BF16 or F16", named.name)));
            }
        }
    }
    Ok(weights)
}

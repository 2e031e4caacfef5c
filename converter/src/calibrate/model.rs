//! The f32 model, layer by layer, through candle on the CPU.
//!
//! Every function takes one window of tokens; windows are independent, so that callers can spread them over threads.
//! Results do not depend on the number of threads: candle's GEMM splits rows and columns, not the inner dimension.

use super::ops;
use crate::ConvertError;
use crate::dequantize;
use crate::pack;
use crate::quantize::RowError;
use crate::read::{SourceModel, SourceTensor};
use candle_core::{Device, Result as Computed, Tensor};
use thimble_runtime::format::{Config, Encoding, LayerOptions, TensorRole};

impl From<candle_core::Error> for ConvertError {
    fn from(error: candle_core::Error) -> ConvertError {
        // candle may append a backtrace.
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().to_owned();
        ConvertError::Calibration { reason: format!("candle failed: {reason}") }
    }
}

/// The numbers of a source's tensor, row-major.
///
/// # Errors
/// The file cannot be read, or a number is infinite or not a number.
fn source_values(model: &SourceModel, tensor: &SourceTensor) -> Result<Vec<f32>, ConvertError> {
    let rows = if tensor.role.is_vector() { 1 } else { tensor.rows };
    let mut bytes = Vec::new();
    model.read_rows(tensor, 0..rows, &mut bytes)?;
    let mut values = vec![0.0; rows * tensor.columns];
    dequantize(tensor.kind, &bytes, &mut values);
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => {
            Err(ConvertError::NotFinite { name: tensor.name.clone(), row: at / tensor.columns.max(1) })
        }
        None => Ok(values),
    }
}

/// The index of a tensor in canonical order.
pub(crate) fn tensor_index(model: &SourceModel, role: TensorRole, layer: u16) -> usize {
    // Opening the source has checked that every tensor is present.
    model.tensors().iter().position(|t| t.role == role && t.layer == layer).unwrap_or(0)
}

/// A tensor of the source: a matrix, or the vector of a norm or bias.
pub(crate) fn load(model: &SourceModel, role: TensorRole, layer: u16) -> Result<Tensor, ConvertError> {
    let tensor = &model.tensors()[tensor_index(model, role, layer)];
    let values = source_values(model, tensor)?;
    if role.is_vector() {
        return Ok(Tensor::from_vec(values, tensor.columns, &Device::Cpu)?);
    }
    Ok(matrix(values, tensor.rows, tensor.columns)?)
}

/// The numbers in stored bytes, row-major.
pub(crate) fn stored_values(
    tensor: &SourceTensor,
    encoding: Encoding,
    bytes: &[u8],
) -> Result<Vec<f32>, ConvertError> {
    use rayon::prelude::*;
    let mut values = vec![0.0; tensor.rows * tensor.columns];
    let rows = values.par_chunks_mut(tensor.columns.max(1)).enumerate();
    let read = rows.map(|(row, out)| pack::unpack_row(encoding, bytes, row, out));
    // Bytes that this crate has made are never too short.
    read.collect::<Option<Vec<()>>>()
        .map(|_| values)
        .ok_or_else(|| RowError::TooLarge { row: 0 }.in_tensor(&tensor.name, 0, encoding.name()))
}

/// A matrix of f32 on the CPU.
pub(crate) fn matrix(values: Vec<f32>, rows: usize, columns: usize) -> Computed<Tensor> {
    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
}

/// `x` (tokens x inputs) through a projection (outputs x inputs).
pub(crate) fn project(x: &Tensor, weight: &Tensor) -> Computed<Tensor> {
    x.matmul(&weight.t()?)
}

/// The operations of a model, with its rotary tables.
pub(crate) struct ForwardPass {
    config: Config,
    /// Of the rotary embedding, for each position and pair.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl ForwardPass {
    /// For windows of up to `window` tokens.
    pub(crate) fn new(config: &Config, window: usize) -> ForwardPass {
        let half = config.head_dim / 2;
        let mut frequencies = vec![0.0; half];
        config.rope.inverse_frequencies(&mut frequencies);
        let rotation = |at: usize| config.rope.rotation(at / half, frequencies[at % half]);
        let (cos, sin) = (0..window * half).map(rotation).map(|[cos, sin]| (cos, sin)).unzip();
        ForwardPass { config: *config, cos, sin }
    }

    /// RMS norm of every token, or of every head if the weight is as long, times the weight.
    pub(crate) fn norm(&self, x: &Tensor, weight: &Tensor) -> Computed<Tensor> {
        ops::norm(x, weight, self.config.norm_eps)
    }

    /// Causal attention over products of query, key and value projections: the input of the output projection,
    /// tokens x heads * dim.
    pub(crate) fn attend(
        &self,
        [query, key, value]: [Tensor; 3],
        options: &AttentionOptions,
    ) -> Computed<Tensor> {
        let Config { heads, kv_heads, head_dim, .. } = self.config;
        let (tokens, group) = (query.dim(0)?, heads / kv_heads);
        if tokens * head_dim / 2 > self.cos.len() {
            candle_core::bail!("{tokens} tokens are more than the model was loaded for");
        }
        let split = |x: &Tensor, heads| x.reshape((tokens, heads, head_dim))?.transpose(0, 1)?.contiguous();
        let AttentionOptions { layer, bias, norm } = options;
        let [query, key, value] = match bias {
            None => [query, key, value],
            Some([q, k, v]) => {
                [ops::add_bias(&query, q)?, ops::add_bias(&key, k)?, ops::add_bias(&value, v)?]
            }
        };
        let [query, key] = match norm {
            None => [query, key],
            Some([q, k]) => [self.norm(&query, q)?, self.norm(&key, k)?],
        };
        let [query, key] = match layer.rope {
            false => [query, key],
            true => {
                let rotate = |x: &Tensor| ops::rotate(x, head_dim, &self.cos, &self.sin);
                [rotate(&query)?, rotate(&key)?]
            }
        };
        let query = split(&query, heads)?.reshape((kv_heads, group * tokens, head_dim))?;
        let key = split(&key, kv_heads)?;
        let scores = query.matmul(&key.t()?)?;
        let scores = ops::softmax(&scores, tokens, layer, layer.score_scale(head_dim))?;
        let out = scores.matmul(&split(&value, kv_heads)?)?.reshape((heads, tokens, head_dim))?;
        out.transpose(0, 1)?.reshape((tokens, heads * head_dim))
    }

    /// The input of the down projection: silu(gate) x up.
    pub(crate) fn gated(&self, gate: &Tensor, up: &Tensor) -> Computed<Tensor> {
        ops::gated(gate, up)
    }
}

/// What a layer does with the products of its query, key and value projections besides plain attention.
#[derive(Clone)]
pub(crate) struct AttentionOptions {
    /// RoPE and sliding window.
    pub(crate) layer: LayerOptions,
    /// Biases of query, key and value.
    pub(crate) bias: Option<[Tensor; 3]>,
    /// RMS norms of query and key heads.
    pub(crate) norm: Option<[Tensor; 2]>,
}

impl AttentionOptions {
    /// Those of a layer of the source.
    pub(crate) fn load(model: &SourceModel, layer: u16) -> Result<AttentionOptions, ConvertError> {
        use TensorRole as Role;
        let (config, get) = (&model.config, |role| load(model, role, layer));
        let bias = match config.qkv_bias {
            true => Some([get(Role::QueryBias)?, get(Role::KeyBias)?, get(Role::ValueBias)?]),
            false => None,
        };
        let norm = match config.qk_norm {
            true => Some([get(Role::QueryNorm)?, get(Role::KeyNorm)?]),
            false => None,
        };
        Ok(AttentionOptions { layer: config.layer(usize::from(layer)), bias, norm })
    }
}

/// The weights of one layer, as matrices of f32; norms as vectors.
#[derive(Clone)]
pub(crate) struct Layer {
    /// RMS norm before attention.
    pub(crate) attention_norm: Tensor,
    /// Query, key, value, output.
    pub(crate) attention: [Tensor; 4],
    /// Between those of query, key and value and that of the output.
    pub(crate) options: AttentionOptions,
    /// RMS norm before the feed-forward part.
    pub(crate) ffn_norm: Tensor,
    /// Gate, up, down.
    pub(crate) ffn: [Tensor; 3],
}

impl Layer {
    /// A layer of the source.
    pub(crate) fn load(model: &SourceModel, layer: u16) -> Result<Layer, ConvertError> {
        let get = |role| load(model, role, layer);
        Ok(Layer {
            attention_norm: get(TensorRole::AttentionNorm)?,
            attention: [
                get(TensorRole::Query)?,
                get(TensorRole::Key)?,
                get(TensorRole::Value)?,
                get(TensorRole::Output)?,
            ],
            options: AttentionOptions::load(model, layer)?,
            ffn_norm: get(TensorRole::FfnNorm)?,
            ffn: [get(TensorRole::Gate)?, get(TensorRole::Up)?, get(TensorRole::Down)?],
        })
    }
}

impl ForwardPass {
    /// The residual stream after a layer.
    pub(crate) fn layer(&self, x: &Tensor, layer: &Layer) -> Computed<Tensor> {
        let [query, key, value, output] = &layer.attention;
        let [gate, up, down] = &layer.ffn;
        let input = self.norm(x, &layer.attention_norm)?;
        let products = [project(&input, query)?, project(&input, key)?, project(&input, value)?];
        let heads = self.attend(products, &layer.options)?;
        let x = ops::add(x, &project(&heads, output)?)?;
        let input = self.norm(&x, &layer.ffn_norm)?;
        let input = self.gated(&project(&input, gate)?, &project(&input, up)?)?;
        ops::add(&x, &project(&input, down)?)
    }

    /// The rows of the embedding for some tokens: tokens x hidden.
    pub(crate) fn embed(&self, embedding: &Tensor, tokens: &[u32]) -> Computed<Tensor> {
        embedding.index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)
    }
}

/// A whole model in f32: the reference for its quantized forms.
pub struct FloatModel {
    pub(crate) forward: ForwardPass,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Tensor,
    /// `None` if it is the embedding.
    head: Option<Tensor>,
}

impl FloatModel {
    /// Loads all weights, 4 bytes each, for texts of up to `longest` tokens.
    ///
    /// # Errors
    /// A weight is not finite, or the source cannot be read.
    pub fn load(model: &SourceModel, longest: usize) -> Result<FloatModel, ConvertError> {
        let (config, none) = (model.config, TensorRole::NO_LAYER);
        Ok(FloatModel {
            forward: ForwardPass::new(&config, longest),
            embedding: load(model, TensorRole::Embedding, none)?,
            layers: (0..config.layers as u16).map(|l| Layer::load(model, l)).collect::<Result<_, _>>()?,
            norm: load(model, TensorRole::FinalNorm, none)?,
            head: if config.tied { None } else { Some(load(model, TensorRole::Head, none)?) },
        })
    }

    pub(crate) fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Logits of a residual stream. Shape: tokens x vocabulary.
    pub(crate) fn logits(&self, x: &Tensor, head: &Tensor) -> Computed<Vec<f32>> {
        project(&self.forward.norm(x, &self.norm)?, head)?.flatten_all()?.to_vec1()
    }

    /// The logits after each token. Shape: tokens x vocabulary.
    ///
    /// # Errors
    /// More tokens than the model was loaded for, or one outside the vocabulary.
    pub fn predict(&self, tokens: &[u32]) -> Result<Vec<f32>, ConvertError> {
        let mut x = self.forward.embed(&self.embedding, tokens)?;
        for layer in &self.layers {
            x = self.forward.layer(&x, layer)?;
        }
        Ok(self.logits(&x, self.head())?)
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;

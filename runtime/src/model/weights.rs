//! The weights of a model, as a struct field for each tensor.

use crate::format::{Config, FormatError, LayerOptions, ModelFile, TensorRole};
use crate::kernels::Matrix;
use zerocopy::FromBytes;

/// The weights of a model file, as views.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'f> {
    file: ModelFile<'f>,
    /// `[vocab, hidden]`.
    pub embedding: Matrix<'f>,
    /// `[hidden]`.
    pub final_norm: &'f [f32],
    /// `[vocab, hidden]`; the embedding if tied.
    pub head: Matrix<'f>,
}

/// The weights and options of one decoder layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'f> {
    /// `[hidden]`.
    pub attention_norm: &'f [f32],
    /// `[heads * head_dim, hidden]`.
    pub query: Matrix<'f>,
    /// `[kv_heads * head_dim, hidden]`.
    pub key: Matrix<'f>,
    /// `[kv_heads * head_dim, hidden]`.
    pub value: Matrix<'f>,
    /// `[hidden, heads * head_dim]`.
    pub output: Matrix<'f>,
    /// `[hidden]`.
    pub ffn_norm: &'f [f32],
    /// `[ffn, hidden]`.
    pub gate: Matrix<'f>,
    /// `[ffn, hidden]`.
    pub up: Matrix<'f>,
    /// `[hidden, ffn]`.
    pub down: Matrix<'f>,
    /// Biases of query, key and value, if the model has them.
    pub qkv_bias: Option<[&'f [f32]; 3]>,
    /// RMS norms of query and key heads, `[head_dim]` each, if the model has them.
    pub qk_norm: Option<[&'f [f32]; 2]>,
    /// The layer's options.
    pub options: LayerOptions,
}

/// The matrix of a role.
fn matrix<'f>(file: &ModelFile<'f>, role: TensorRole, layer: u16) -> Matrix<'f> {
    match file.tensors().find(role, layer) {
        Some(record) => Matrix {
            encoding: record.encoding,
            rows: record.rows as usize,
            columns: record.columns as usize,
            data: file.tensor_bytes(&record),
        },
        // Unreachable: the table has all tensors of the canonical order.
        None => Matrix { encoding: crate::format::Encoding::F32, rows: 0, columns: 0, data: &[] },
    }
}

/// The vector of a role.
fn vector<'f>(file: &ModelFile<'f>, role: TensorRole, layer: u16) -> &'f [f32] {
    <[f32]>::ref_from_bytes(matrix(file, role, layer).data).unwrap_or(&[])
}

impl<'f> Weights<'f> {
    /// The weights of `file`. Never fails for a parsed file.
    pub fn new(file: &ModelFile<'f>) -> Result<Weights<'f>, FormatError> {
        let none = TensorRole::NO_LAYER;
        let embedding = matrix(file, TensorRole::Embedding, none);
        let head = if file.config().tied { embedding } else { matrix(file, TensorRole::Head, none) };
        let final_norm = vector(file, TensorRole::FinalNorm, none);
        Ok(Weights { file: *file, embedding, final_norm, head })
    }

    /// The model's hyperparameters.
    pub fn config(&self) -> &Config {
        self.file.config()
    }

    /// The weights of layer `index`, less than `config().layers`.
    pub fn layer(&self, index: usize) -> Layer<'f> {
        let config = self.config();
        let matrix = |role| matrix(&self.file, role, index as u16);
        let vector = |role| vector(&self.file, role, index as u16);
        Layer {
            attention_norm: vector(TensorRole::AttentionNorm),
            query: matrix(TensorRole::Query),
            key: matrix(TensorRole::Key),
            value: matrix(TensorRole::Value),
            output: matrix(TensorRole::Output),
            ffn_norm: vector(TensorRole::FfnNorm),
            gate: matrix(TensorRole::Gate),
            up: matrix(TensorRole::Up),
            down: matrix(TensorRole::Down),
            qkv_bias: config
                .qkv_bias
                .then(|| [TensorRole::QueryBias, TensorRole::KeyBias, TensorRole::ValueBias].map(vector)),
            qk_norm: config.qk_norm.then(|| [TensorRole::QueryNorm, TensorRole::KeyNorm].map(vector)),
            options: config.layer(index),
        }
    }
}

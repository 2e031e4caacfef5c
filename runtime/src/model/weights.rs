//! The weights of a model, as a struct field for each tensor.

use crate::format::{Config, FormatError, ModelFile, TensorRole};
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

/// The weights of one decoder layer.
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
}

fn matrix<'f>(file: &ModelFile<'f>, index: usize) -> Matrix<'f> {
    match file.tensors().get(index) {
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

fn vector<'f>(file: &ModelFile<'f>, index: usize) -> &'f [f32] {
    <[f32]>::ref_from_bytes(matrix(file, index).data).unwrap_or(&[])
}

impl<'f> Weights<'f> {
    /// The weights of `file`. Never fails for a parsed file.
    pub fn new(file: &ModelFile<'f>) -> Result<Weights<'f>, FormatError> {
        let config = file.config();
        let last = 1 + config.layers * TensorRole::LAYER.len();
        let embedding = matrix(file, 0);
        let head = if config.tied { embedding } else { matrix(file, last + 1) };
        Ok(Weights { file: *file, embedding, final_norm: vector(file, last), head })
    }

    /// The model's hyperparameters.
    pub fn config(&self) -> &Config {
        self.file.config()
    }

    /// The weights of layer `index`, less than `config().layers`.
    pub fn layer(&self, index: usize) -> Layer<'f> {
        let first = 1 + index * TensorRole::LAYER.len();
        let matrix = |offset| matrix(&self.file, first + offset);
        let vector = |offset| vector(&self.file, first + offset);
        Layer {
            attention_norm: vector(0),
            query: matrix(1),
            key: matrix(2),
            value: matrix(3),
            output: matrix(4),
            ffn_norm: vector(5),
            gate: matrix(6),
            up: matrix(7),
            down: matrix(8),
        }
    }
}

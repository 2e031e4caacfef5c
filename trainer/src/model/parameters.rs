//! The layout of the parameters in the flat buffers, and their Hugging Face names.

use crate::ops::{WeightMatrix, WeightVector};
use thimble_runtime::format::{Config, LayerOptions, TensorRole};

/// One layer's parameters.
#[derive(Clone, Copy, Debug)]
pub struct LayerParameters {
    /// Query, key and value projections, stacked by rows.
    pub qkv: WeightMatrix,
    /// Projection of the attended values back into the residual stream.
    pub output: WeightMatrix,
    /// Gate and up projections, stacked by rows.
    pub gate_up: WeightMatrix,
    /// Projection back into the residual stream.
    pub down: WeightMatrix,
    /// Norm before attention.
    pub attention_norm: WeightVector,
    /// Norm before the feed-forward network.
    pub ffn_norm: WeightVector,
    /// Biases of query, key and value projections side by side, if the model has them.
    pub qkv_bias: Option<WeightVector>,
    /// Norms of query and key heads, if the model has them.
    pub qk_norm: Option<[WeightVector; 2]>,
    /// RoPE and sliding window.
    pub options: LayerOptions,
}

/// All parameters: matrices first (they decay), norms and biases after.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// `vocab x hidden`.
    pub embedding: WeightMatrix,
    /// The embedding where tied.
    pub head: WeightMatrix,
    /// The layers, first to last.
    pub layers: Vec<LayerParameters>,
    /// Norm before the head.
    pub final_norm: WeightVector,
    /// Elements of all matrices; norms and biases follow.
    pub matrices: usize,
    /// Elements of all parameters.
    pub len: usize,
    named: Vec<NamedTensor>,
}

/// A tensor of the Hugging Face checkpoint and its place in the flat buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// For example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[outputs, inputs]` or `[width]`.
    pub shape: Vec<usize>,
    /// First element in the flat buffers.
    pub start: usize,
}

impl NamedTensor {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Always false: no parameter is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a range of indices.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len()
    }
}

/// Allocates ranges of the flat buffer.
struct ParameterLayout<'c> {
    config: &'c Config,
    at: usize,
    named: Vec<NamedTensor>,
}

impl ParameterLayout<'_> {
    fn tensor(&mut self, role: TensorRole, layer: u16) {
        let (rows, columns) = role.shape(self.config);
        let shape = if role.is_vector() { vec![columns] } else { vec![rows, columns] };
        self.named.push(NamedTensor { name: role.hugging_face(layer).to_string(), shape, start: self.at });
        self.at += rows * columns;
    }

    /// Matrices of the same inputs, stacked by rows, as one.
    fn matrix(&mut self, roles: &[TensorRole], layer: u16) -> WeightMatrix {
        let start = self.at;
        roles.iter().for_each(|&role| self.tensor(role, layer));
        let columns = roles.first().map_or(1, |role| role.shape(self.config).1);
        WeightMatrix { start, rows: (self.at - start) / columns, columns }
    }

    /// Vectors side by side as one.
    fn vector(&mut self, roles: &[TensorRole], layer: u16) -> WeightVector {
        let start = self.at;
        roles.iter().for_each(|&role| self.tensor(role, layer));
        WeightVector { start, len: self.at - start }
    }
}

impl Parameters {
    /// Lays out the parameters of a model.
    pub fn new(config: &Config) -> Parameters {
        use TensorRole as Role;
        const NONE: u16 = Role::NO_LAYER;
        let layers = || 0..config.layers as u16;
        let mut layout = ParameterLayout { config, at: 0, named: Vec::new() };
        let embedding = layout.matrix(&[Role::Embedding], NONE);
        let matrices: Vec<_> = layers()
            .map(|layer| {
                [
                    layout.matrix(&[Role::Query, Role::Key, Role::Value], layer),
                    layout.matrix(&[Role::Output], layer),
                    layout.matrix(&[Role::Gate, Role::Up], layer),
                    layout.matrix(&[Role::Down], layer),
                ]
            })
            .collect();
        let head = if config.tied { embedding } else { layout.matrix(&[Role::Head], NONE) };
        let matrix_elements = layout.at;
        let layers = layers()
            .zip(matrices)
            .map(|(layer, [qkv, output, gate_up, down])| LayerParameters {
                qkv,
                output,
                gate_up,
                down,
                attention_norm: layout.vector(&[Role::AttentionNorm], layer),
                ffn_norm: layout.vector(&[Role::FfnNorm], layer),
                qkv_bias: config
                    .qkv_bias
                    .then(|| layout.vector(&[Role::QueryBias, Role::KeyBias, Role::ValueBias], layer)),
                qk_norm: config
                    .qk_norm
                    .then(|| [Role::QueryNorm, Role::KeyNorm].map(|role| layout.vector(&[role], layer))),
                options: config.layer(usize::from(layer)),
            })
            .collect();
        let final_norm = layout.vector(&[Role::FinalNorm], NONE);
        Parameters {
            embedding,
            head,
            layers,
            final_norm,
            matrices: matrix_elements,
            len: layout.at,
            named: layout.named,
        }
    }

    /// Every tensor by its Hugging Face name.
    pub fn named(&self) -> &[NamedTensor] {
        &self.named
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&NamedTensor> {
        self.named.iter().find(|named| named.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hidden: usize, layers: usize, heads: usize, kv_heads: usize, ffn: usize) -> Config {
        let head_dim = hidden / heads;
        Config { hidden, layers, heads, kv_heads, head_dim, ffn, vocab: 49_152, ..Config::PLAIN }
    }

    #[test]
    fn the_family_has_its_known_sizes() {
        assert_eq!(Parameters::new(&config(384, 32, 6, 2, 1024)).len, 69_230_976);
        assert_eq!(Parameters::new(&config(576, 30, 9, 3, 1536)).len, 134_515_008);
        assert_eq!(Parameters::new(&config(960, 32, 15, 5, 2560)).len, 361_821_120);
        assert_eq!(Parameters::new(&config(2048, 24, 32, 32, 8192)).len, 1_711_376_384);
    }

    #[test]
    fn names_tile_the_buffer() {
        for options in 0..8 {
            let [tied, qkv_bias, qk_norm] = [1, 2, 4].map(|bit| options & bit != 0);
            let config = Config { tied, qkv_bias, qk_norm, ..config(64, 3, 4, 2, 96) };
            let parameters = Parameters::new(&config);
            let mut at = 0;
            for named in parameters.named() {
                assert_eq!(named.start, at, "{}", named.name);
                at += named.len();
            }
            assert_eq!(at, parameters.len);
            assert_eq!(at as u64, config.parameters());
            assert_eq!(parameters.named().len(), TensorRole::count(&config));
            assert_eq!(parameters.find("lm_head.weight").is_some(), !tied);
            let vectors = parameters.named().iter().filter(|named| named.start >= parameters.matrices);
            let per_layer = 2 + 3 * usize::from(qkv_bias) + 2 * usize::from(qk_norm);
            assert_eq!(vectors.clone().count(), 3 * per_layer + 1);
            assert!(vectors.clone().all(|named| named.shape.len() == 1));
        }
    }
}

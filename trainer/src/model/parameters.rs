//! The layout of the parameters in the flat buffers, and their Hugging Face names.

use crate::ops::{WeightMatrix, WeightVector};
use crate::recipe::ModelShape;

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
}

/// All parameters: matrices first (they decay), norms after.
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
    /// Elements of all matrices; norms follow.
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
#[derive(Default)]
struct ParameterLayout {
    at: usize,
    named: Vec<NamedTensor>,
}

impl ParameterLayout {
    /// Matrices of `columns` inputs, stacked by rows, as one.
    fn matrix(&mut self, columns: usize, parts: &[(String, usize)]) -> WeightMatrix {
        let start = self.at;
        for (name, rows) in parts {
            self.named.push(NamedTensor {
                name: format!("{name}.weight"),
                shape: vec![*rows, columns],
                start: self.at,
            });
            self.at += rows * columns;
        }
        WeightMatrix { start, rows: (self.at - start) / columns, columns }
    }

    fn vector(&mut self, name: String, len: usize) -> WeightVector {
        let start = self.at;
        self.named.push(NamedTensor { name: format!("{name}.weight"), shape: vec![len], start });
        self.at += len;
        WeightVector { start, len }
    }
}

impl Parameters {
    /// Lays out the parameters of a shape.
    pub fn new(shape: &ModelShape) -> Parameters {
        let dim = shape.head_width();
        let mut layout = ParameterLayout::default();
        let embedding = layout.matrix(shape.hidden, &[("model.embed_tokens".into(), shape.vocab)]);
        let matrices: Vec<_> = (0..shape.layers)
            .map(|layer| {
                let name = |part: &str| format!("model.layers.{layer}.{part}");
                [
                    layout.matrix(
                        shape.hidden,
                        &[
                            (name("self_attn.q_proj"), shape.heads * dim),
                            (name("self_attn.k_proj"), shape.kv_heads * dim),
                            (name("self_attn.v_proj"), shape.kv_heads * dim),
                        ],
                    ),
                    layout.matrix(shape.heads * dim, &[(name("self_attn.o_proj"), shape.hidden)]),
                    layout.matrix(
                        shape.hidden,
                        &[(name("mlp.gate_proj"), shape.ffn), (name("mlp.up_proj"), shape.ffn)],
                    ),
                    layout.matrix(shape.ffn, &[(name("mlp.down_proj"), shape.hidden)]),
                ]
            })
            .collect();
        let head = if shape.tied {
            embedding
        } else {
            layout.matrix(shape.hidden, &[("lm_head".into(), shape.vocab)])
        };
        let matrix_elements = layout.at;
        let layers = matrices
            .into_iter()
            .enumerate()
            .map(|(layer, [qkv, output, gate_up, down])| LayerParameters {
                qkv,
                output,
                gate_up,
                down,
                attention_norm: layout.vector(format!("model.layers.{layer}.input_layernorm"), shape.hidden),
                ffn_norm: layout
                    .vector(format!("model.layers.{layer}.post_attention_layernorm"), shape.hidden),
            })
            .collect();
        let final_norm = layout.vector("model.norm".into(), shape.hidden);
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

    fn shape(hidden: usize, layers: usize, heads: usize, kv_heads: usize, ffn: usize) -> ModelShape {
        ModelShape {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim: None,
            ffn,
            vocab: 49_152,
            context: 8192,
            rope_theta: 1e4,
            rms_norm_eps: 1e-5,
            tied: true,
            init_std: 0.02,
        }
    }

    #[test]
    fn the_family_has_its_known_sizes() {
        assert_eq!(Parameters::new(&shape(384, 32, 6, 2, 1024)).len, 69_230_976);
        assert_eq!(Parameters::new(&shape(576, 30, 9, 3, 1536)).len, 134_515_008);
        assert_eq!(Parameters::new(&shape(960, 32, 15, 5, 2560)).len, 361_821_120);
        assert_eq!(Parameters::new(&shape(2048, 24, 32, 32, 8192)).len, 1_711_376_384);
    }

    #[test]
    fn names_tile_the_buffer() {
        for tied in [true, false] {
            let parameters = Parameters::new(&ModelShape { tied, ..shape(64, 3, 4, 2, 96) });
            let mut at = 0;
            for named in parameters.named() {
                assert_eq!(named.start, at, "{}", named.name);
                at += named.len();
            }
            assert_eq!(at, parameters.len);
            assert_eq!(parameters.find("lm_head.weight").is_some(), !tied);
            let norms = parameters.named().iter().filter(|named| named.start >= parameters.matrices);
            assert!(norms.clone().count() == 7 && norms.clone().all(|named| named.shape.len() == 1));
        }
    }
}

//! The layout of the parameters in the flat buffers, and their Hugging Face names.
//!
//! Trainable parameters come first, so that gradients and moments are as long as they are; frozen ones follow. In either
//! part the matrices come first.

use super::stacks::{GATE_UP, QKV, QKV_BIAS, Stack, freeze, stacks};
use crate::error::Result;
use crate::ops::{Adapter, AdapterPart, BufferLengths, MAX_PARTS, WeightMatrix, WeightVector};
use crate::recipe::{AdaptedMatrix, AdapterKeys, TrainingRecipe};
use std::collections::HashMap;
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
    /// Adapters of the matrices.
    pub adapters: LayerAdapters,
    /// RoPE and sliding window.
    pub options: LayerOptions,
}

/// The adapters of one layer's matrices; none where a matrix has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerAdapters {
    /// Of query, key and value projections.
    pub qkv: Option<Adapter>,
    /// Of attention's output projection.
    pub output: Option<Adapter>,
    /// Of gate and up projections.
    pub gate_up: Option<Adapter>,
    /// Of the down projection.
    pub down: Option<Adapter>,
}

/// All parameters: trainable matrices (they decay), trainable norms and biases, frozen matrices, frozen norms and biases.
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
    /// Elements of the trainable matrices, which come first; trainable norms and biases follow.
    pub matrices: usize,
    /// Elements of all trainable parameters; the frozen ones follow.
    pub trainable: usize,
    /// Elements of all parameters.
    pub len: usize,
    /// The lowest layer that the backward pass must reach; the number of layers if it needs none.
    pub lowest_layer: usize,
    named: Vec<NamedTensor>,
}

/// A tensor of the Hugging Face checkpoint and its place in the flat buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// For example `model.layers.0.self_attn.q_proj.weight`. An adapter's is that of the PEFT library:
    /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub name: String,
    /// `[outputs, inputs]` or `[width]`.
    pub shape: Vec<usize>,
    /// First element in the flat buffers.
    pub start: usize,
    /// Place in the model's own order, which nothing that is frozen changes; adapters follow.
    pub ordinal: usize,
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
    /// Tensors of the model itself.
    tensors: usize,
    at: usize,
    named: Vec<NamedTensor>,
    starts: HashMap<(TensorRole, u16), usize>,
}

impl ParameterLayout<'_> {
    fn place(&mut self, stack: &Stack) {
        for ((&role, name), ordinal) in stack.roles.iter().zip(stack.names()).zip(stack.ordinal..) {
            let (rows, columns) = role.shape(self.config);
            self.starts.insert((role, stack.layer), self.at);
            let shape = if role.is_vector() { vec![columns] } else { vec![rows, columns] };
            self.named(name, shape, ordinal);
        }
    }

    fn named(&mut self, name: String, shape: Vec<usize>, ordinal: usize) {
        let tensor = NamedTensor { name, shape, start: self.at, ordinal };
        self.at += tensor.len();
        self.named.push(tensor);
    }

    /// The first element of a stack that has been placed.
    fn start(&self, roles: &[TensorRole], layer: u16) -> usize {
        let found = roles.first().and_then(|&role| self.starts.get(&(role, layer)));
        found.copied().unwrap_or_default()
    }

    fn matrix(&self, roles: &[TensorRole], layer: u16) -> WeightMatrix {
        let shapes = || roles.iter().map(|role| role.shape(self.config));
        let columns = shapes().next().map_or(1, |(_, columns)| columns);
        WeightMatrix { start: self.start(roles, layer), rows: shapes().map(|(rows, _)| rows).sum(), columns }
    }

    fn vector(&self, roles: &[TensorRole], layer: u16) -> WeightVector {
        let len = roles.iter().map(|role| role.shape(self.config).1).sum();
        WeightVector { start: self.start(roles, layer), len }
    }

    /// Places the adapters of the adapted ones among matrices that are stacked.
    fn adapter(&mut self, shape: &AdapterKeys, roles: &[TensorRole], layer: u16) -> Option<Adapter> {
        let adapted = AdaptedMatrix::ALL.into_iter().filter(|matrix| shape.matrices().contains(matrix));
        let adapted: Vec<TensorRole> =
            adapted.map(AdaptedMatrix::role).filter(|role| roles.contains(role)).collect();
        let columns = adapted.first()?.shape(self.config).1;
        let name = |role: TensorRole, factor: char| {
            let name = role.hugging_face(layer).to_string();
            let module = name.strip_suffix(".weight").unwrap_or(&name);
            format!("base_model.model.{module}.lora_{factor}.weight")
        };
        let a = WeightMatrix { start: self.at, rows: adapted.len() * shape.rank, columns };
        for &role in &adapted {
            self.named(name(role, 'A'), vec![shape.rank, columns], self.tensors + self.named.len());
        }
        let mut parts = [None; MAX_PARTS];
        for (part, &role) in parts.iter_mut().zip(&adapted) {
            let rows = role.shape(self.config).0;
            let before = roles.iter().take_while(|&&other| other != role);
            *part = Some(AdapterPart {
                b: WeightMatrix { start: self.at, rows, columns: shape.rank },
                first_output: before.map(|role| role.shape(self.config).0).sum(),
            });
            self.named(name(role, 'B'), vec![rows, shape.rank], self.tensors + self.named.len());
        }
        Some(Adapter { a, parts, scale: shape.scale() })
    }
}

impl Parameters {
    /// Lays out the parameters of a model of which all are trained.
    pub fn new(config: &Config) -> Parameters {
        Parameters::lay_out(config, stacks(config), None)
    }

    /// Lays out the parameters of a recipe's model, with its adapters and what it freezes.
    ///
    /// # Errors
    /// `freeze` names no tensor, all tensors, or a part of matrices that are stacked.
    pub fn of(recipe: &TrainingRecipe) -> Result<Parameters> {
        Parameters::with(&recipe.model.config(), &recipe.freeze, recipe.adapter.as_ref())
    }

    /// Lays out the parameters of a model of which the tensors that the entries of `freeze` name are frozen, or, with an adapter, all.
    ///
    /// # Errors
    /// As [`Parameters::of`].
    pub fn with(config: &Config, entries: &[String], adapter: Option<&AdapterKeys>) -> Result<Parameters> {
        let mut stacks = stacks(config);
        freeze(&mut stacks, entries)?;
        Ok(Parameters::lay_out(config, stacks, adapter))
    }

    fn lay_out(config: &Config, mut stacks: Vec<Stack>, adapter: Option<&AdapterKeys>) -> Parameters {
        use TensorRole as Role;
        const NONE: u16 = Role::NO_LAYER;
        let layers = || 0..config.layers as u16;
        let tensors = stacks.iter().map(|stack| stack.roles.len()).sum();
        let mut layout =
            ParameterLayout { config, tensors, at: 0, named: Vec::new(), starts: HashMap::new() };
        let mut adapters = vec![LayerAdapters::default(); config.layers];
        if let Some(shape) = adapter {
            stacks.iter_mut().for_each(|stack| stack.frozen = true);
            for (layer, adapters) in layers().zip(&mut adapters) {
                adapters.qkv = layout.adapter(shape, &QKV, layer);
                adapters.output = layout.adapter(shape, &[Role::Output], layer);
                adapters.gate_up = layout.adapter(shape, &GATE_UP, layer);
                adapters.down = layout.adapter(shape, &[Role::Down], layer);
            }
        }
        let mut place = |frozen, vector| {
            let of_kind = |stack: &&Stack| stack.frozen == frozen && stack.is_vector() == vector;
            stacks.iter().filter(of_kind).for_each(|stack| layout.place(stack));
            layout.at
        };
        let matrices = place(false, false);
        let trainable = place(false, true);
        place(true, false);
        let len = place(true, true);
        let trained_layers = stacks.iter().filter(|stack| !stack.frozen && stack.layer != NONE);
        let lowest = trained_layers.map(|stack| usize::from(stack.layer)).min().unwrap_or(config.layers);
        let embedding = layout.matrix(&[Role::Embedding], NONE);
        let to_the_bottom = adapter.is_some() || embedding.range().end <= trainable;
        let layers = layers()
            .zip(adapters)
            .map(|(layer, adapters)| LayerParameters {
                qkv: layout.matrix(&QKV, layer),
                output: layout.matrix(&[Role::Output], layer),
                gate_up: layout.matrix(&GATE_UP, layer),
                down: layout.matrix(&[Role::Down], layer),
                attention_norm: layout.vector(&[Role::AttentionNorm], layer),
                ffn_norm: layout.vector(&[Role::FfnNorm], layer),
                qkv_bias: config.qkv_bias.then(|| layout.vector(&QKV_BIAS, layer)),
                qk_norm: config
                    .qk_norm
                    .then(|| [Role::QueryNorm, Role::KeyNorm].map(|role| layout.vector(&[role], layer))),
                adapters,
                options: config.layer(usize::from(layer)),
            })
            .collect();
        Parameters {
            embedding,
            head: if config.tied { embedding } else { layout.matrix(&[Role::Head], NONE) },
            layers,
            final_norm: layout.vector(&[Role::FinalNorm], NONE),
            matrices,
            trainable,
            len,
            lowest_layer: if to_the_bottom { 0 } else { lowest },
            named: layout.named,
        }
    }

    /// Lengths of the flat buffers.
    pub fn lengths(&self) -> BufferLengths {
        BufferLengths { weights: self.len, gradients: self.trainable }
    }

    /// Every tensor by its Hugging Face name, in the order of the flat buffers.
    pub fn named(&self) -> &[NamedTensor] {
        &self.named
    }

    /// The trainable tensors.
    pub fn trained(&self) -> &[NamedTensor] {
        &self.named[..self.named.partition_point(|named| named.start < self.trainable)]
    }

    /// The frozen tensors.
    pub fn frozen(&self) -> &[NamedTensor] {
        &self.named[self.trained().len()..]
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

    #[test]
    fn frozen_tensors_follow_the_trainable_ones() {
        let config = Config { qk_norm: true, tied: false, ..config(64, 3, 4, 2, 96) };
        let all = Parameters::new(&config);
        let freeze = |entries: &[&str]| {
            let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
            Parameters::with(&config, &entries, None)
        };
        for (entries, lowest_layer) in [
            (&[][..], 0),
            (&["norms"], 0),
            (&["embedding", "layers.0-1"], 2),
            (&["embedding", "*.layers.*"], 3),
            (&["layers.0-1"], 0),
            (&["embedding", "*.q_proj.*", "*.k_proj.*", "*.v_proj.*", "model.layers.0.*"], 1),
        ] {
            let parameters = freeze(entries).unwrap();
            assert_eq!((parameters.len, parameters.lowest_layer), (all.len, lowest_layer), "{entries:?}");
            let mut at = 0;
            for named in parameters.named() {
                assert_eq!(named.start, at, "{}", named.name);
                at += named.len();
            }
            let is_vector = |named: &NamedTensor| named.shape.len() == 1;
            for (part, end) in [(parameters.trained(), parameters.trainable), (parameters.frozen(), at)] {
                assert_eq!(part.last().map_or(end, |named| named.range().end), end);
                assert!(part.is_sorted_by_key(is_vector), "matrices first");
            }
            assert_eq!(parameters.trained().is_empty(), parameters.trainable == 0);
            assert!(entries.is_empty() == parameters.frozen().is_empty());
            let mut names = [all.named(), parameters.named()].map(|named| {
                named.iter().map(|named| (named.name.clone(), named.shape.clone())).collect::<Vec<_>>()
            });
            names.iter_mut().for_each(|names| names.sort());
            assert_eq!(names[0], names[1]);
        }
        assert_eq!(freeze(&[]).unwrap().named(), all.named());
        for (entries, expected) in [
            (&["*"][..], "every tensor is frozen"),
            (&["*.q_proj.*"], "all or none of model.layers.0.self_attn.q_proj.weight"),
            (&["layers.3"], "\"layers.3\" names no tensor"),
        ] {
            let error = freeze(entries).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn adapters_come_first_and_freeze_the_rest() {
        let config = config(64, 2, 4, 2, 96);
        let shape =
            AdapterKeys { matrices: vec![AdaptedMatrix::V, AdaptedMatrix::Q], ..AdapterKeys::of_rank(8) };
        let parameters = Parameters::with(&config, &[], Some(&shape)).unwrap();
        let names: Vec<&str> = parameters.trained().iter().map(|named| &*named.name).collect();
        let layer = |layer: usize| {
            ["q_proj.lora_A", "v_proj.lora_A", "q_proj.lora_B", "v_proj.lora_B"]
                .map(|name| format!("base_model.model.model.layers.{layer}.self_attn.{name}.weight"))
        };
        assert_eq!(names, [layer(0), layer(1)].concat());
        let adapter = parameters.layers[1].adapters.qkv.unwrap();
        assert_eq!((adapter.a.rows, adapter.a.columns, adapter.scale), (16, 64, 2.0));
        let parts: Vec<_> =
            adapter.parts().map(|(part, from)| (part.first_output, part.b.rows, from)).collect();
        assert_eq!(parts, [(0, 64, 0), (96, 32, 8)]);
        assert_eq!(parameters.trainable, 2 * (16 * 64 + 8 * (64 + 32)));
        assert_eq!(parameters.matrices, parameters.trainable);
        assert_eq!(parameters.len - parameters.trainable, Parameters::new(&config).len);
        assert_eq!(parameters.lowest_layer, 0);
    }
}

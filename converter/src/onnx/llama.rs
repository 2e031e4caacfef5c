//! The graph of a model: plain operators of ONNX, which every runtime has, and `MatMulNBits` for 4-bit weights.
//!
//! The residual stream, norms, RoPE and softmax are f32 for every [`OnnxType`]; products and the KV cache are f16 for
//! [`OnnxType::F16`]. Shapes: `b` sequences, `s` new tokens, `t` positions with those of the cache, `d` head dimension.

use super::blocks;
use super::graph::{Attribute, Dimension, Graph, GraphValue};
use super::initializer::{Content, ElementType, Initializer, StoredTensor};
use super::onnx_type::OnnxType;
use super::quantized::QuantizedMatrix;
use thimble_runtime::format::{Config, TensorRole};

const NONE: u16 = TensorRole::NO_LAYER;
const BATCH: Dimension = Dimension::Named("batch_size");

/// The graph of a model of this configuration, with the inputs and outputs of optimum and transformers.js.
pub(super) fn graph(config: &Config, dtype: OnnxType) -> Graph {
    let mut builder = Builder { config, dtype, graph: Graph::default(), masks: Default::default() };
    builder.declare();
    builder.masks();
    let rotation = builder.rotation();
    let mut x = builder.embed();
    for layer in 0..config.layers {
        x = builder.attention(layer, &x, &rotation);
        x = builder.feed_forward(layer, &x);
    }
    builder.head(&x);
    builder.graph
}

struct Builder<'c> {
    config: &'c Config,
    dtype: OnnxType,
    graph: Graph,
    /// Added to the scores of a layer without and with a sliding window: 0 or the lowest f32, `[b, 1, s, t]`.
    masks: [String; 2],
}

impl Builder<'_> {
    /// Declares inputs and outputs.
    fn declare(&mut self) {
        let [new, past, all] =
            ["sequence_length", "past_sequence_length", "total_sequence_length"].map(Dimension::Named);
        let value = |name: &str, kind, shape: &[Dimension]| GraphValue {
            name: name.to_owned(),
            kind,
            shape: shape.to_vec(),
        };
        let integers = ElementType::I64;
        let inputs = [("input_ids", new), ("attention_mask", all), ("position_ids", new)];
        self.graph.inputs = inputs.map(|(name, length)| value(name, integers, &[BATCH, length])).into();
        let logits = [BATCH, new, Dimension::Fixed(self.config.vocab)];
        self.graph.outputs = vec![value("logits", ElementType::F32, &logits)];
        let [heads, width] = [self.config.kv_heads, self.config.head_dim].map(Dimension::Fixed);
        for layer in 0..self.config.layers {
            for part in ["key", "value"] {
                let kind = self.dtype.products();
                let name = format!("past_key_values.{layer}.{part}");
                self.graph.inputs.push(value(&name, kind, &[BATCH, heads, past, width]));
                let name = format!("present.{layer}.{part}");
                self.graph.outputs.push(value(&name, kind, &[BATCH, heads, all, width]));
            }
        }
    }

    /// Computes the masks from `attention_mask` and the order of tokens.
    fn masks(&mut self) {
        let (graph, at) = (&mut self.graph, "/model/mask");
        let [zero, one] = [0, 1].map(|value| graph.integers(&format!("{at}/{value}"), &[], &[value]));
        let first = graph.integers(&format!("{at}/rows"), &[1], &[1]);
        let padding = graph.integers(&format!("{at}/heads_and_queries"), &[2], &[1, 2]);
        let [new, all] = ["input_ids", "attention_mask"].map(|input| {
            let shape = graph.node(&format!("{at}/{input}"), "Shape", &[input]);
            graph.node(&format!("{at}/{input}"), "Gather", &[&shape, &one])
        });
        let past = graph.node(&format!("{at}/past"), "Sub", &[&all, &new]);
        let keys = graph.node(&format!("{at}/keys"), "Range", &[&zero, &all, &one]);
        let queries = graph.node(&format!("{at}/queries"), "Range", &[&past, &all, &one]);
        let queries = graph.node(&format!("{at}/queries"), "Unsqueeze", &[&queries, &first]);
        let causal = graph.node(&format!("{at}/causal"), "LessOrEqual", &[&keys, &queries]);
        let attended = graph.cast(&format!("{at}/attended"), "attention_mask", ElementType::Bool);
        let attended = graph.node(&format!("{at}/attended"), "Unsqueeze", &[&attended, &padding]);
        let full = graph.node(&format!("{at}/full"), "And", &[&causal, &attended]);
        let open = graph.number(&format!("{at}/open"), 0.0);
        let closed = graph.number(&format!("{at}/closed"), f32::MIN);
        let pattern = &self.config.pattern;
        let any = |sliding| (0..self.config.layers).any(|layer| pattern.is_sliding(layer) == sliding);
        if any(false) {
            self.masks[0] = graph.node(&format!("{at}/full"), "Where", &[&full, &open, &closed]);
        }
        if any(true) {
            let at = "/model/sliding_mask";
            let window = graph.integers(&format!("{at}/window"), &[], &[self.config.window as i64]);
            let oldest = graph.node(&format!("{at}/oldest"), "Sub", &[&queries, &window]);
            let near = graph.node(&format!("{at}/near"), "Greater", &[&keys, &oldest]);
            let both = graph.node(&format!("{at}/both"), "And", &[&full, &near]);
            self.masks[1] = graph.node(at, "Where", &[&both, &open, &closed]);
        }
    }

    /// Cosines and sines at `position_ids`, `[b, s, 1, d / 2]` each.
    fn rotation(&mut self) -> [String; 2] {
        if !(0..self.config.layers).any(|layer| self.config.pattern.has_rope(layer)) {
            return Default::default();
        }
        let heads = self.graph.integers("/model/rotary/heads", &[1], &[2]);
        let shape = [self.config.context, self.config.head_dim / 2];
        [("cos", StoredTensor::Cosines), ("sin", StoredTensor::Sines)].map(|(name, stored)| {
            let content = Content::Stored(stored);
            let table = self.graph.constant(&format!("{name}_cache"), ElementType::F32, &shape, content);
            let at = format!("/model/rotary/{name}");
            let rows = self.graph.node(&at, "Gather", &[&table, "position_ids"]);
            self.graph.node(&at, "Unsqueeze", &[&rows, &heads])
        })
    }

    /// The rows of the embedding, `[b, s, hidden]`.
    fn embed(&mut self) -> String {
        let at = "/model/embed_tokens";
        let name = self.name(TensorRole::Embedding, NONE);
        if self.has_quantized_embedding() {
            let matrix = self.quantized(&name, TensorRole::Embedding, NONE);
            return self.graph.quantized_rows(at, "input_ids", &matrix);
        }
        let kind = self.dtype.products();
        let table = self.rows(TensorRole::Embedding, NONE, kind);
        let rows = self.graph.node(at, "Gather", &[&table, "input_ids"]);
        self.cast(at, rows, kind, ElementType::F32)
    }

    /// `x` plus the layer's attention.
    fn attention(&mut self, layer: usize, x: &str, rotation: &[String; 2]) -> String {
        let Config { heads, kv_heads, head_dim, .. } = *self.config;
        let (index, at) = (layer as u16, format!("/model/layers.{layer}"));
        let options = self.config.layer(layer);
        let products = self.dtype.products();
        let input = self.norm(&format!("{at}/input_layernorm"), x, TensorRole::AttentionNorm, index);
        let at = format!("{at}/self_attn");
        let input = self.cast(&format!("{at}/input"), input, ElementType::F32, products);
        let [q, k, v] = [
            ("q", TensorRole::Query, heads, TensorRole::QueryBias, Some(TensorRole::QueryNorm)),
            ("k", TensorRole::Key, kv_heads, TensorRole::KeyBias, Some(TensorRole::KeyNorm)),
            ("v", TensorRole::Value, kv_heads, TensorRole::ValueBias, None),
        ]
        .map(|(part, role, heads, bias, norm)| {
            let name = format!("{at}/{part}_proj");
            let mut y = self.product(&name, &input, role, index);
            y = self.cast(&name, y, products, ElementType::F32);
            if self.config.qkv_bias {
                let bias = self.rows(bias, index, ElementType::F32);
                y = self.graph.node(&name, "Add", &[&y, &bias]);
            }
            let name = format!("{at}/{part}");
            y = self.reshape(&name, &y, [0, 0, heads as i64, head_dim as i64]);
            if let Some(norm) = norm {
                if self.config.qk_norm {
                    y = self.norm(&format!("{name}_norm"), &y, norm, index);
                }
                if options.rope {
                    y = self.rotate(&format!("{name}_rotary"), &y, rotation);
                }
            }
            self.transpose(&name, &y, &[0, 2, 1, 3])
        });
        let [k, v] = [("key", k), ("value", v)].map(|(part, new)| {
            let name = format!("{at}/{part}");
            let new = self.cast(&name, new, ElementType::F32, products);
            let past = format!("past_key_values.{layer}.{part}");
            let axis = [("axis", Attribute::Integer(2))];
            self.graph.node_with(&name, "Concat", &[&past, &new], &axis);
            let present = format!("present.{layer}.{part}");
            self.graph.name_output(&present);
            present
        });
        // The query heads of a key-value head are rows of one product.
        let scale = self.shared_number("/model/attention/scale", options.score_scale(head_dim));
        let q = self.graph.node(&format!("{at}/scaled"), "Mul", &[&q, &scale]);
        let q = self.cast(&format!("{at}/scaled"), q, ElementType::F32, products);
        let q = self.reshape(&format!("{at}/grouped"), &q, [0, kv_heads as i64, -1, head_dim as i64]);
        let k = self.transpose(&format!("{at}/key_columns"), &k, &[0, 1, 3, 2]);
        let scores = self.graph.node(&format!("{at}/scores"), "MatMul", &[&q, &k]);
        let scores = self.cast(&format!("{at}/scores"), scores, products, ElementType::F32);
        let scores = self.reshape(&format!("{at}/scores"), &scores, [0, heads as i64, -1, 0]);
        let mask = self.masks[usize::from(options.window.is_some())].clone();
        let scores = self.graph.node(&format!("{at}/masked"), "Add", &[&scores, &mask]);
        let axis = [("axis", Attribute::Integer(-1))];
        let weights = self.graph.node_with(&format!("{at}/weights"), "Softmax", &[&scores], &axis);
        let weights = self.cast(&format!("{at}/weights"), weights, ElementType::F32, products);
        let weights = self.reshape(&format!("{at}/weights"), &weights, [0, kv_heads as i64, -1, 0]);
        let mixed = self.graph.node(&format!("{at}/mixed"), "MatMul", &[&weights, &v]);
        let mixed = self.reshape(&format!("{at}/heads"), &mixed, [0, heads as i64, -1, head_dim as i64]);
        let mixed = self.transpose(&format!("{at}/heads"), &mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(&format!("{at}/output"), &mixed, [0, 0, (heads * head_dim) as i64]);
        let name = format!("{at}/o_proj");
        let y = self.product(&name, &mixed, TensorRole::Output, index);
        let y = self.cast(&name, y, products, ElementType::F32);
        self.graph.node(&format!("{at}/residual"), "Add", &[x, &y])
    }

    /// `x` plus the layer's feed-forward network.
    fn feed_forward(&mut self, layer: usize, x: &str) -> String {
        let (index, at) = (layer as u16, format!("/model/layers.{layer}"));
        let products = self.dtype.products();
        let name = format!("{at}/post_attention_layernorm");
        let input = self.norm(&name, x, TensorRole::FfnNorm, index);
        let at = format!("{at}/mlp");
        let input = self.cast(&format!("{at}/input"), input, ElementType::F32, products);
        let gate = self.product(&format!("{at}/gate_proj"), &input, TensorRole::Gate, index);
        let up = self.product(&format!("{at}/up_proj"), &input, TensorRole::Up, index);
        let sigmoid = self.graph.node(&format!("{at}/act_fn"), "Sigmoid", &[&gate]);
        let gate = self.graph.node(&format!("{at}/act_fn"), "Mul", &[&gate, &sigmoid]);
        let both = self.graph.node(&at, "Mul", &[&gate, &up]);
        let name = format!("{at}/down_proj");
        let y = self.product(&name, &both, TensorRole::Down, index);
        let y = self.cast(&name, y, products, ElementType::F32);
        self.graph.node(&format!("{at}/residual"), "Add", &[x, &y])
    }

    /// The output `logits`, `[b, s, vocab]`.
    fn head(&mut self, x: &str) {
        let products = self.dtype.products();
        let x = self.norm("/model/norm", x, TensorRole::FinalNorm, NONE);
        let x = self.cast("/lm_head/input", x, ElementType::F32, products);
        let tied = self.config.tied;
        let role = if tied { TensorRole::Embedding } else { TensorRole::Head };
        if self.dtype == OnnxType::Q4 {
            let (embedding, head) =
                (self.name(TensorRole::Embedding, NONE), self.name(TensorRole::Head, NONE));
            let table = self.quantized(&embedding, role, NONE);
            let table = (tied && self.has_quantized_embedding()).then_some(&table);
            let matrix = self.quantized(&head, role, NONE);
            self.graph.quantized_product("/lm_head", &x, &matrix, table);
        } else {
            // Transposed here and not in the file, so that a tied head shares the embedding's numbers.
            let rows = if tied { self.name(role, NONE) } else { self.rows(role, NONE, products) };
            let columns = self.transpose("/lm_head", &rows, &[1, 0]);
            let logits = self.graph.node("/lm_head", "MatMul", &[&x, &columns]);
            self.cast("/lm_head", logits, products, ElementType::F32);
        }
        self.graph.name_output("logits");
    }

    /// The RMS norm over the last dimension (Zhang and Sennrich 2019), in the form that onnxruntime fuses.
    fn norm(&mut self, name: &str, x: &str, role: TensorRole, layer: u16) -> String {
        let two = self.shared_number("/model/norm/two", 2.0);
        let epsilon = self.shared_number("/model/norm/epsilon", self.config.norm_eps);
        let weight = self.rows(role, layer, ElementType::F32);
        let square = self.graph.node(name, "Pow", &[x, &two]);
        let axes = [("axes", Attribute::Integers(&[-1])), ("keepdims", Attribute::Integer(1))];
        let mean = self.graph.node_with(name, "ReduceMean", &[&square], &axes);
        let mean = self.graph.node(name, "Add", &[&mean, &epsilon]);
        let root = self.graph.node(name, "Sqrt", &[&mean]);
        let unit = self.graph.node(name, "Div", &[x, &root]);
        self.graph.node(name, "Mul", &[&unit, &weight])
    }

    /// RoPE on heads `[b, s, heads, d]`: rotates pairs of the first and the second half (Su et al. 2021, eq. 34).
    fn rotate(&mut self, name: &str, x: &str, [cosines, sines]: &[String; 2]) -> String {
        let axis = [("axis", Attribute::Integer(-1))];
        let graph = &mut self.graph;
        let [first, second] = graph.halves(name, x);
        let mut term = |part: &str, operator, [a, b]: [&str; 2], [c, d]: [&str; 2]| {
            let left = graph.node(&format!("{name}/{part}_left"), "Mul", &[a, b]);
            let right = graph.node(&format!("{name}/{part}_right"), "Mul", &[c, d]);
            graph.node(&format!("{name}/{part}"), operator, &[&left, &right])
        };
        let low = term("first", "Sub", [&first, cosines], [&second, sines]);
        let high = term("second", "Add", [&second, cosines], [&first, sines]);
        self.graph.node_with(name, "Concat", &[&low, &high], &axis)
    }

    /// The product of the last dimension with a matrix.
    fn product(&mut self, name: &str, x: &str, role: TensorRole, layer: u16) -> String {
        let weight = self.name(role, layer);
        if self.dtype == OnnxType::Q4 {
            let matrix = self.quantized(&weight, role, layer);
            return self.graph.quantized_product(name, x, &matrix, None);
        }
        let (rows, columns) = role.shape(self.config);
        let kind = self.dtype.products();
        let content = Content::Stored(StoredTensor::Transposed { role, layer, kind });
        self.graph.constant(&weight, kind, &[columns, rows], content);
        self.graph.node(name, "MatMul", &[x, &weight])
    }

    /// Whether lookups in the embedding are of blocks: `GatherBlockQuantized` has no padded rows.
    fn has_quantized_embedding(&self) -> bool {
        self.dtype == OnnxType::Q4 && self.config.hidden.is_multiple_of(blocks::LEN)
    }

    fn quantized<'a>(&self, name: &'a str, role: TensorRole, layer: u16) -> QuantizedMatrix<'a> {
        let (rows, columns) = role.shape(self.config);
        QuantizedMatrix { name, role, layer, rows, columns }
    }

    fn reshape(&mut self, name: &str, x: &str, shape: impl AsRef<[i64]>) -> String {
        let shape = shape.as_ref();
        let text = shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let constant = format!("/model/shape/{text}");
        if self.graph.initializers.iter().all(|known| known.name != constant) {
            self.graph.integers(&constant, &[shape.len()], shape);
        }
        self.graph.node(name, "Reshape", &[x, &constant])
    }

    fn transpose(&mut self, name: &str, x: &str, order: &'static [i64]) -> String {
        self.graph.node_with(name, "Transpose", &[x], &[("perm", Attribute::Integers(order))])
    }

    /// A cast, unless the types are the same.
    fn cast(&mut self, name: &str, x: String, from: ElementType, to: ElementType) -> String {
        if from == to { x } else { self.graph.cast(name, &x, to) }
    }

    /// A constant that several nodes read; another value of the same name gets a name of its own.
    fn shared_number(&mut self, name: &str, value: f32) -> String {
        let number = value.to_le_bytes();
        let is_same =
            |known: &Initializer| matches!(&known.content, Content::Inline(bytes) if *bytes == number);
        match self.graph.initializers.iter().find(|known| known.name == name) {
            None => self.graph.number(name, value),
            Some(known) if is_same(known) => name.to_owned(),
            Some(_) => self.shared_number(&format!("{name}/{value}"), value),
        }
    }

    /// A tensor of the model in its own row order.
    fn rows(&mut self, role: TensorRole, layer: u16, kind: ElementType) -> String {
        let (rows, columns) = role.shape(self.config);
        let shape = [rows, columns];
        let shape = if role.is_vector() { &shape[1..] } else { &shape };
        let content = Content::Stored(StoredTensor::Rows { role, layer, kind });
        let name = self.name(role, layer);
        self.graph.constant(&name, kind, shape, content)
    }

    fn name(&self, role: TensorRole, layer: u16) -> String {
        role.hugging_face(layer).to_string()
    }
}

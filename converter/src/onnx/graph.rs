//! An ONNX graph under construction, and its encoding (onnx.proto of github.com/onnx/onnx).

use super::data::DataLayout;
use super::initializer::{Content, ElementType, Initializer};
use super::protobuf::ProtoMessage;

/// Version of the file format: that of ONNX 1.12, which has [`OPSET`].
const IR_VERSION: i64 = 8;
/// Version of the standard operators. 17 is the last with the axes of `ReduceMean` as an attribute, and every runtime has it.
const OPSET: i64 = 17;
/// The operators of onnxruntime.
const MICROSOFT: &str = "com.microsoft";

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dimension {
    Fixed(usize),
    Named(&'static str),
}

/// The value of a node's attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attribute {
    Integer(i64),
    Integers(&'static [i64]),
}

/// An operator with its operands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) operator: &'static str,
    pub(super) domain: &'static str,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// An input or output of the graph.
#[derive(Debug)]
pub(super) struct GraphValue {
    pub(super) name: String,
    pub(super) kind: ElementType,
    pub(super) shape: Vec<Dimension>,
}

/// A graph. Nodes follow those whose outputs they read.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<Initializer>,
    pub(super) inputs: Vec<GraphValue>,
    pub(super) outputs: Vec<GraphValue>,
}

impl Graph {
    /// Adds a node with one output, whose name it returns: the node's, followed by `/output_0`.
    pub(super) fn node(&mut self, name: &str, operator: &'static str, inputs: &[&str]) -> String {
        self.node_with(name, operator, inputs, &[])
    }

    /// Adds a node with attributes.
    pub(super) fn node_with(
        &mut self,
        name: &str,
        operator: &'static str,
        inputs: &[&str],
        attributes: &[(&'static str, Attribute)],
    ) -> String {
        let name = format!("{name}/{operator}");
        let output = format!("{name}/output_0");
        self.nodes.push(Node {
            name,
            operator,
            domain: "",
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output.clone()],
            attributes: attributes.to_vec(),
        });
        output
    }

    /// Adds a cast.
    pub(super) fn cast(&mut self, name: &str, value: &str, to: ElementType) -> String {
        self.node_with(name, "Cast", &[value], &[("to", Attribute::Integer(to as i64))])
    }

    /// Adds a node that splits the last dimension of `value` in two.
    pub(super) fn halves(&mut self, name: &str, value: &str) -> [String; 2] {
        let first = self.node_with(name, "Split", &[value], &[("axis", Attribute::Integer(-1))]);
        let second = format!("{name}/Split/output_1");
        self.nodes.last_mut().into_iter().for_each(|node| node.outputs.push(second.clone()));
        [first, second]
    }

    /// Renames the output of the last node, to be one of the graph's.
    pub(super) fn name_output(&mut self, name: &str) {
        self.nodes.last_mut().into_iter().for_each(|node| node.outputs = vec![name.to_owned()]);
    }

    /// Makes the last node an operator of onnxruntime.
    pub(super) fn of_onnxruntime(&mut self) {
        self.nodes.last_mut().into_iter().for_each(|node| node.domain = MICROSOFT);
    }

    /// Adds a list of integers, or one integer without dimensions.
    pub(super) fn integers(&mut self, name: &str, shape: &[usize], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::I64, shape, Content::Inline(bytes))
    }

    /// Adds one f32.
    pub(super) fn number(&mut self, name: &str, value: f32) -> String {
        self.constant(name, ElementType::F32, &[], Content::Inline(value.to_le_bytes().to_vec()))
    }

    /// Adds a constant.
    pub(super) fn constant(
        &mut self,
        name: &str,
        kind: ElementType,
        shape: &[usize],
        content: Content,
    ) -> String {
        let name = name.to_owned();
        self.initializers.push(Initializer { name: name.clone(), kind, shape: shape.to_vec(), content });
        name
    }

    /// The graph as a `ModelProto`.
    pub(super) fn encode(&self, layout: &DataLayout) -> Vec<u8> {
        let mut graph = ProtoMessage::default();
        self.nodes.iter().for_each(|node| _ = graph.message(1, &node.encode()));
        graph.bytes(2, "main_graph");
        for constant in &self.initializers {
            graph.message(5, &constant.encode(layout.locations.get(&constant.name)));
        }
        self.inputs.iter().for_each(|value| _ = graph.message(11, &value.encode()));
        self.outputs.iter().for_each(|value| _ = graph.message(12, &value.encode()));
        let mut model = ProtoMessage::default();
        model.integer(1, IR_VERSION).bytes(2, "thimble").bytes(3, env!("CARGO_PKG_VERSION"));
        model.message(7, &graph);
        let own = self.nodes.iter().any(|node| node.domain == MICROSOFT);
        for (domain, version) in [("", OPSET), (MICROSOFT, 1)] {
            if domain.is_empty() || own {
                let mut opset = ProtoMessage::default();
                opset.bytes(1, domain).integer(2, version);
                model.message(8, &opset);
            }
        }
        model.into_bytes()
    }
}

impl Node {
    fn encode(&self) -> ProtoMessage {
        let mut node = ProtoMessage::default();
        self.inputs.iter().for_each(|input| _ = node.bytes(1, input));
        self.outputs.iter().for_each(|output| _ = node.bytes(2, output));
        node.bytes(3, &self.name).bytes(4, self.operator);
        for (name, value) in &self.attributes {
            let mut attribute = ProtoMessage::default();
            attribute.bytes(1, name);
            match value {
                Attribute::Integer(value) => attribute.integer(3, *value).integer(20, 2),
                Attribute::Integers(values) => {
                    values.iter().for_each(|&value| _ = attribute.integer(8, value));
                    attribute.integer(20, 7)
                }
            };
            node.message(5, &attribute);
        }
        if !self.domain.is_empty() {
            node.bytes(7, self.domain);
        }
        node
    }
}

impl GraphValue {
    fn encode(&self) -> ProtoMessage {
        let mut shape = ProtoMessage::default();
        for dimension in &self.shape {
            let mut size = ProtoMessage::default();
            match dimension {
                Dimension::Fixed(value) => size.integer(1, *value as i64),
                Dimension::Named(name) => size.bytes(2, name),
            };
            shape.message(1, &size);
        }
        let (mut tensor, mut kind, mut value) = Default::default();
        ProtoMessage::message(ProtoMessage::integer(&mut tensor, 1, self.kind as i64), 2, &shape);
        ProtoMessage::message(&mut kind, 1, &tensor);
        ProtoMessage::message(ProtoMessage::bytes(&mut value, 1, &self.name), 2, &kind);
        value
    }
}

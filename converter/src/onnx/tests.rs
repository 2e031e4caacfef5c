//! Graphs, read back from their encoding.

use super::data::DataLayout;
use super::graph::Graph;
use super::initializer::Content;
use super::{OnnxType, llama};
use crate::test_config::CONFIG;
use std::collections::{BTreeMap, BTreeSet};
use thimble_runtime::format::{Config, LayerPattern, TensorRole};

/// A field of an encoded message.
#[derive(Debug)]
enum Field<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

/// The fields of an encoded message by number.
struct Fields<'a>(Vec<(u64, Field<'a>)>);

impl<'a> Fields<'a> {
    fn read(mut bytes: &'a [u8]) -> Fields<'a> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (&first, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first < 0x80 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Integer(value),
                2 => {
                    let (field, rest) = bytes.split_at(value as usize);
                    bytes = rest;
                    Field::Bytes(field)
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        Fields(fields)
    }

    fn integers(&self, number: u64) -> Vec<i64> {
        let fields = self.0.iter().filter(|(field, _)| *field == number);
        fields.filter_map(|(_, f)| if let Field::Integer(i) = f { Some(*i as i64) } else { None }).collect()
    }

    fn bytes(&self, number: u64) -> Vec<&'a [u8]> {
        let fields = self.0.iter().filter(|(field, _)| *field == number);
        fields.filter_map(|(_, f)| if let Field::Bytes(b) = f { Some(*b) } else { None }).collect()
    }

    fn texts(&self, number: u64) -> Vec<String> {
        self.bytes(number).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    fn messages(&self, number: u64) -> Vec<Fields<'a>> {
        self.bytes(number).into_iter().map(Fields::read).collect()
    }
}

/// Name, element type and dimensions of a `ValueInfoProto`.
fn value(value: &Fields<'_>) -> (String, i64, Vec<String>) {
    let tensor = &value.messages(2)[0].messages(1)[0];
    let dimension = |size: &Fields<'_>| match size.integers(1).first() {
        Some(fixed) => fixed.to_string(),
        None => size.texts(2)[0].clone(),
    };
    let dimensions = tensor.messages(2)[0].messages(1).iter().map(dimension).collect();
    (value.texts(1)[0].clone(), tensor.integers(1)[0], dimensions)
}

/// A model with every option.
fn with_options() -> Config {
    Config {
        layers: 4,
        tied: false,
        qkv_bias: true,
        qk_norm: true,
        window: 8,
        pattern: LayerPattern::new(4, |layer| (layer != 3, layer % 2 == 1)).unwrap(),
        ..CONFIG
    }
}

fn encoded(config: &Config, dtype: OnnxType) -> (Graph, DataLayout, Vec<u8>) {
    let graph = llama::graph(config, dtype);
    let layout = DataLayout::new(&graph.initializers, dtype.file());
    let bytes = graph.encode(&layout);
    (graph, layout, bytes)
}

#[test]
fn inputs_and_outputs_are_those_of_optimum() {
    for (dtype, number) in [(OnnxType::F32, 1), (OnnxType::F16, 10), (OnnxType::Q4, 1)] {
        let (_, _, bytes) = encoded(&CONFIG, dtype);
        let model = Fields::read(&bytes);
        assert_eq!((model.integers(1), model.texts(2)), (vec![8], vec!["thimble".to_owned()]));
        let opsets: Vec<_> =
            model.messages(8).iter().map(|o| (o.texts(1)[0].clone(), o.integers(2)[0])).collect();
        let own = ("com.microsoft".to_owned(), 1);
        assert_eq!(opsets[0], (String::new(), 17));
        assert_eq!(opsets.get(1), (dtype == OnnxType::Q4).then_some(&own));
        let graph = &model.messages(7)[0];
        let inputs: Vec<_> = graph.messages(11).iter().map(value).collect();
        let outputs: Vec<_> = graph.messages(12).iter().map(value).collect();
        let expected = |name: &str, kind, shape: &[&str]| {
            (name.to_owned(), kind, shape.iter().map(|&size| size.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!((inputs.len(), outputs.len()), (3 + 24, 1 + 24));
        assert_eq!(inputs[0], expected("input_ids", 7, &["batch_size", "sequence_length"]));
        assert_eq!(inputs[1], expected("attention_mask", 7, &["batch_size", "total_sequence_length"]));
        assert_eq!(inputs[2], expected("position_ids", 7, &["batch_size", "sequence_length"]));
        let past = ["batch_size", "1", "past_sequence_length", "32"];
        assert_eq!(inputs[3], expected("past_key_values.0.key", number, &past));
        assert_eq!(inputs[26], expected("past_key_values.11.value", number, &past));
        assert_eq!(outputs[0], expected("logits", 1, &["batch_size", "sequence_length", "100"]));
        let present = ["batch_size", "1", "total_sequence_length", "32"];
        assert_eq!(outputs[1], expected("present.0.key", number, &present));
    }
}

/// Every operand is a graph input, a constant, or the output of an earlier node; names are unique; no constant is unused.
#[test]
fn graphs_are_sound() {
    for config in [CONFIG, with_options(), Config { hidden: 80, ..with_options() }] {
        for dtype in OnnxType::ALL {
            let (_, _, bytes) = encoded(&config, dtype);
            let graph = &Fields::read(&bytes).messages(7)[0];
            let mut known: BTreeSet<String> = BTreeSet::new();
            let (mut used, mut names) = (BTreeSet::new(), BTreeSet::new());
            graph.messages(11).iter().for_each(|input| assert!(known.insert(input.texts(1)[0].clone())));
            let constants: Vec<_> =
                graph.messages(5).iter().map(|tensor| tensor.texts(8)[0].clone()).collect();
            constants.iter().for_each(|name| assert!(known.insert(name.clone()), "{name}"));
            for node in graph.messages(1) {
                let name = node.texts(3)[0].clone();
                assert!(names.insert(name.clone()), "two nodes {name}");
                for input in node.texts(1) {
                    assert!(known.contains(&input), "{name} reads {input}");
                    used.insert(input);
                }
                node.texts(2).into_iter().for_each(|output| assert!(known.insert(output), "{name}"));
                let domain = node.texts(7).concat();
                let own = ["MatMulNBits", "GatherBlockQuantized"].contains(&node.texts(4)[0].as_str());
                assert_eq!(domain, if own { "com.microsoft" } else { "" });
            }
            constants.iter().for_each(|name| assert!(used.contains(name), "{name} is unused"));
            let outputs = graph.messages(12);
            assert!(outputs.iter().all(|output| known.contains(&output.texts(1)[0])));
        }
    }
}

#[test]
fn options_of_layers_are_in_the_graph() {
    let (graph, ..) = encoded(&with_options(), OnnxType::F32);
    let inputs = |name: &str| {
        let found = graph.nodes.iter().find(|node| node.name == name);
        found.map(|node| node.inputs.clone()).unwrap_or_default()
    };
    for layer in 0..4 {
        let at = format!("/model/layers.{layer}/self_attn");
        let mask = &inputs(&format!("{at}/masked/Add"))[1];
        assert_eq!(mask.contains("sliding"), layer % 2 == 1, "{mask}");
        for part in ["q", "k"] {
            assert_eq!(inputs(&format!("{at}/{part}_rotary/Concat")).is_empty(), layer == 3);
            let name = format!("model.layers.{layer}.self_attn.{part}_norm.weight");
            assert_eq!(inputs(&format!("{at}/{part}_norm/Mul"))[1], name);
        }
        let bias = format!("model.layers.{layer}.self_attn.v_proj.bias");
        assert_eq!(inputs(&format!("{at}/v_proj/Add"))[1], bias);
    }
    assert_eq!(inputs("/lm_head/Transpose"), ["lm_head.weight"]);
}

#[test]
fn every_tensor_is_stored_once() {
    for config in [CONFIG, with_options()] {
        for dtype in OnnxType::ALL {
            let (graph, layout, bytes) = encoded(&config, dtype);
            let mut stored: BTreeMap<String, usize> = BTreeMap::new();
            for constant in graph.initializers.iter().filter(|c| matches!(c.content, Content::Stored(_))) {
                let name = constant.name.trim_end_matches("_Q4").trim_end_matches("_Q8").to_owned();
                if !name.ends_with("_scales") && !name.ends_with("_zero_points") {
                    *stored.entry(name).or_default() += 1;
                }
            }
            let tensors = (0..TensorRole::count(&config)).map(|index| {
                let (role, layer) = TensorRole::at(&config, index);
                (role.hugging_face(layer).to_string(), 1)
            });
            let tables = ["cos_cache", "sin_cache"].map(|name| (name.to_owned(), 1));
            assert_eq!(stored, tensors.chain(tables).collect::<BTreeMap<_, _>>());
            // The file says where each one lies, and none overlaps another.
            let mut end = 0;
            for tensor in Fields::read(&bytes).messages(7)[0].messages(5) {
                let name = tensor.texts(8)[0].clone();
                let entries = tensor.messages(13);
                let entry = |key: &str| {
                    let found = entries.iter().find(|entry| entry.texts(1)[0] == key);
                    found.map(|entry| entry.texts(2)[0].clone())
                };
                let Some(location) = layout.locations.get(&name) else {
                    assert!(entries.is_empty() && tensor.bytes(9).len() == 1, "{name} is inline");
                    continue;
                };
                assert_eq!(entry("location").as_deref(), Some(format!("{}_data", dtype.file()).as_str()));
                let offset: u64 = entry("offset").unwrap().parse().unwrap();
                assert_eq!((offset, tensor.integers(14)), (location.offset, vec![1]));
                if name != "lm_head.weight_Q8" || !config.tied {
                    assert!(offset >= end && offset.is_multiple_of(4096), "{name}");
                    end = offset + entry("length").unwrap().parse::<u64>().unwrap();
                }
            }
        }
    }
}

#[test]
fn long_data_is_cut_into_files() {
    let (graph, ..) = encoded(&CONFIG, OnnxType::F32);
    let layout = DataLayout::with_limit(&graph.initializers, "m.onnx", 40_000);
    assert!(layout.files.len() > 2);
    assert_eq!(layout.files[..3], ["m.onnx_data", "m.onnx_data_1", "m.onnx_data_2"]);
    for constant in &graph.initializers {
        let Some(location) = layout.locations.get(&constant.name) else { continue };
        assert!(location.offset == 0 || location.offset + constant.length() <= 40_000);
    }
}

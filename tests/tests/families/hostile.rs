//! Variants of the families that are refused: each by the name of its file, key and value.

use super::golden::{self, Golden};
use super::tiny::{GgufFile, Meta, ODD, Shape, float_bytes};
use serde_json::{Value as Json, json};
use thimble_converter::config::read_config_json;
use thimble_converter::{BlockType, ConvertError, SourceModel, read};

/// Opens the model after a change of its `config.json`.
fn with(golden: &Golden, changes: &Json) -> Result<SourceModel, ConvertError> {
    let mut folder = golden.folder(BlockType::F32);
    for (key, value) in changes.as_object().unwrap() {
        folder.config[key] = value.clone();
    }
    let at = tempfile::tempdir().unwrap();
    folder.write(at.path(), 1);
    read::open(at.path())
}

/// The message has to contain every one of `names`.
fn names(result: Result<SourceModel, ConvertError>, names: &[&str]) {
    let error = result.expect_err("accepted").to_string();
    for name in names {
        assert!(error.contains(name), "{error:?} does not name {name:?}");
    }
}

#[test]
fn configurations_that_cannot_be_computed_are_refused_by_name() {
    let yarn = |more: Json| {
        let mut rope = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48});
        rope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"rope_scaling": rope})
    };
    let llama3 = |factor: Json, low: Json, high: Json| {
        json!({"rope_scaling": {"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": 64}})
    };
    let wide = 1u64 << 62;
    let cases: [(&str, Json, &[&str]); 38] = [
        (
            "Llama 3",
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            &["rope_scaling", "dynamic"],
        ),
        ("Llama 3", json!({"rope_scaling": {"type": "longrope"}}), &["rope_scaling", "longrope"]),
        (
            "Llama 3",
            json!({"rope_scaling": {"type": "linear"}}),
            &["rope_scaling: factor", "missing", "number"],
        ),
        (
            "Llama 3",
            json!({"rope_scaling": {"type": "linear", "factor": 0.5}}),
            &["rope_scaling: factor", "0.5", "1 to"],
        ),
        (
            "Llama 3",
            json!({"rope_scaling": {"type": "linear", "factor": 1e300}}),
            &["rope_scaling: factor", "1000000"],
        ),
        (
            "Llama 3",
            json!({"rope_scaling": {"type": "linear", "factor": 2.0, "axis": 1}}),
            &["rope_scaling", "axis"],
        ),
        ("Llama 3", llama3(json!("8"), json!(1.0), json!(4.0)), &["rope_scaling: factor", "a number"]),
        (
            "Llama 3",
            llama3(json!(8.0), json!(4.0), json!(4.0)),
            &["high_freq_factor", "4", "above the low_freq_factor"],
        ),
        ("Llama 3", llama3(json!(8.0), json!(0.0), json!(4.0)), &["low_freq_factor", "0", "0.000001"]),
        ("Llama 3", llama3(json!(8.0), json!(1.0), json!(null)), &["high_freq_factor", "missing"]),
        ("Llama 3", json!({"rope_theta": 0.5}), &["rope_theta", "0.5", "at least 1"]),
        ("Llama 3", json!({"rope_theta": 1e300}), &["rope_theta"]),
        ("Llama 3", json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor", "0.5"]),
        ("Llama 3", json!({"sliding_window": 32}), &["sliding_window", "32", "null"]),
        ("Llama 3", json!({"attention_bias": true}), &["attention_bias", "true", "false"]),
        ("Llama 3", json!({"mlp_bias": true}), &["mlp_bias", "true"]),
        ("Llama 3", json!({"final_logit_softcapping": 30.0}), &["final_logit_softcapping", "30"]),
        ("Llama 3", json!({"num_local_experts": 8}), &["num_local_experts", "8"]),
        ("Llama 3", json!({"model_type": "gemma2"}), &["model_type", "gemma2", "llama, qwen2"]),
        ("Llama 3", json!({"architectures": ["Phi3ForCausalLM"]}), &["architectures", "Phi3ForCausalLM"]),
        (
            "Llama 3",
            json!({"head_dim": wide}),
            &["config.json", "head dimension", "4611686018427387904", "256"],
        ),
        ("Llama 3", json!({"num_attention_heads": wide}), &["config.json", "head count"]),
        ("Llama 3", json!({"num_hidden_layers": wide}), &["config.json", "layer count", "1,024"]),
        ("Llama 3", json!({"rms_norm_eps": 2.0}), &["rms_norm_eps", "2", "between 0 and 1"]),
        ("Llama, YaRN", yarn(json!({"beta_fast": 0.5})), &["rope_scaling: beta_fast", "0.5", "beta_slow"]),
        ("Llama, YaRN", yarn(json!({"attention_factor": -1.0})), &["attention_factor", "-1"]),
        (
            "Llama, YaRN",
            yarn(json!({"original_max_position_embeddings": 0})),
            &["original_max_position_embeddings", "0"],
        ),
        ("Llama, YaRN", yarn(json!({"rope_theta": 1.0})), &["rope_theta", "1", "YaRN"]),
        ("Qwen2, windows", json!({"sliding_window": 0}), &["sliding_window", "0", "null"]),
        ("Qwen2, windows", json!({"sliding_window": -3}), &["sliding_window", "whole number"]),
        ("Qwen2, windows", json!({"use_sliding_window": "yes"}), &["use_sliding_window", "true or false"]),
        ("Qwen3, layers", json!({"layer_types": ["full_attention"]}), &["layer_types", "for each layer"]),
        (
            "Qwen3, layers",
            json!({"layer_types": ["a", "b", "c", "d"]}),
            &["layer_types", "sliding_attention"],
        ),
        ("Qwen3, layers", json!({"use_sliding_window": false}), &["layer_types", "use_sliding_window"]),
        ("Qwen3", json!({"attention_bias": true}), &["attention_bias", "true"]),
        ("SmolLM3", json!({"no_rope_layer_interval": 0}), &["no_rope_layer_interval", "0", "at least 1"]),
        (
            "SmolLM3",
            json!({"no_rope_layers": [1, 0, 2, 1, 1, 1]}),
            &["no_rope_layers", "[1,0,2", "each layer"],
        ),
        (
            "Mistral",
            json!({"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]}),
            &["layer_types", "MinistralForCausalLM"],
        ),
    ];
    for (model, changes, expected) in cases {
        let golden = golden::named(model);
        names(with(&golden, &changes), expected);
        names(with(&golden, &changes), &["config.json"]);
    }
}

#[test]
fn tensors_that_do_not_fit_the_family_are_refused_by_name() {
    let bias = "model.layers.2.self_attn.k_proj.bias";
    let norm = "model.layers.1.self_attn.q_norm.weight";
    for (model, tensor) in [("Qwen2", bias), ("Qwen3", norm)] {
        let open = |change: &dyn Fn(&mut Golden)| {
            let mut golden = golden::named(model);
            change(&mut golden);
            with(&golden, &json!({}))
        };
        names(open(&|golden| drop(golden.tensors.remove(tensor))), &[tensor, "missing"]);
        names(
            open(&|golden| drop(golden.tensors.insert(tensor.to_owned(), vec![31]))),
            &[tensor, "[31]", "expected"],
        );
    }
    let extra = |model: &str, tensor: &str, expected: &[&str]| {
        let mut golden = golden::named(model);
        golden.tensors.insert(tensor.to_owned(), vec![64]);
        names(with(&golden, &json!({})), expected);
    };
    extra("Llama 3", bias, &[bias, "a bias", "LlamaForCausalLM"]);
    extra("Qwen2", "model.layers.0.self_attn.o_proj.bias", &["o_proj.bias", "a bias", "Qwen2ForCausalLM"]);
    extra("Qwen2", norm, &[norm, "a norm of query or key", "Qwen2ForCausalLM"]);
    extra("SmolLM3", norm, &[norm, "a norm of query or key", "SmolLM3ForCausalLM"]);
    extra("Qwen3", "model.layers.0.mlp.experts.0.up_proj.weight", &["experts", "mixture of experts"]);
}

/// A GGUF file of the architecture llama after a change.
fn gguf(change: impl Fn(&mut GgufFile)) -> Result<SourceModel, ConvertError> {
    let shape = Shape { layers: 4, ..ODD };
    let mut file = GgufFile::new(shape, BlockType::F32, |spec| float_bytes(BlockType::F32, &spec.values()));
    change(&mut file);
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("m.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    read::open(&path)
}

#[test]
fn gguf_files_that_cannot_be_computed_are_refused_by_name() {
    let text = |text: &str| Meta::Text(text.to_owned());
    let number = Meta::F32;
    let scaled = |kind: &str, key: &str, value: Meta| {
        let key = format!("llama.rope.scaling.{key}");
        let result = gguf(|file| {
            file.set("llama.rope.scaling.type", text(kind));
            file.set("llama.rope.scaling.factor", number(4.0));
            file.set(&key, value.clone());
        });
        (result, key)
    };
    for (kind, key, value, found) in [
        ("longrope", "factor", number(4.0), "longrope"),
        ("linear", "factor", number(f32::NAN), "NaN"),
        ("linear", "factor", number(f32::INFINITY), "inf"),
        ("linear", "factor", number(-2.0), "-2"),
        ("linear", "attn_factor", number(1.5), "1.5"),
        ("yarn", "attn_factor", number(f32::NAN), "NaN"),
        ("yarn", "yarn_attn_factor", number(1.5), "1.5"),
        ("yarn", "yarn_beta_fast", number(20.0), "20"),
        ("yarn", "yarn_log_multiplier", number(0.1), "0.1"),
        ("yarn", "original_context_length", Meta::U32(0), "0"),
    ] {
        let (result, key) = scaled(kind, key, value);
        let key = if kind == "longrope" { "llama.rope.scaling.type" } else { &key };
        names(result, &[key, found]);
    }
    names(
        gguf(|file| file.set("llama.attention.sliding_window", Meta::U32(1 << 30))),
        &["sliding_window", "1073741824"],
    );
    names(
        gguf(|file| file.set("llama.attention.sliding_window_pattern", Meta::I32s(vec![1, 0]))),
        &["sliding_window_pattern"],
    );
    names(
        gguf(|file| file.set("llama.attention.key_length", Meta::U32(u32::MAX))),
        &["rope.dimension_count", "32"],
    );
    names(
        gguf(|file| file.set("general.architecture", text("gemma2"))),
        &["architecture", "gemma2", "qwen3"],
    );
    let divisors = |values: Vec<f32>| {
        gguf(|file| {
            let bytes = float_bytes(BlockType::F32, &values);
            file.tensors.push(("rope_freqs.weight".to_owned(), vec![values.len() as u64], 0, bytes));
        })
    };
    let name = "rope_freqs.weight";
    names(divisors((0..16).map(|i| 1.0 + i as f32).collect()), &[name, "llama3"]);
    names(divisors(vec![1.0, f32::NAN]), &[name, "llama3"]);
    names(divisors(vec![1.0; 15]), &[name, "[15]", "[16]"]);
    names(divisors(vec![1.0; 4096]), &[name, "4096"]);
    // No scaling at all.
    divisors(vec![1.0; 16]).unwrap();
    // llama.cpp has no such tensor in other architectures.
    let elsewhere = gguf(|file| {
        for (key, _) in &mut file.metadata {
            *key = key.replace("llama.", "smollm3.");
        }
        file.set("general.architecture", text("smollm3"));
        let bytes = float_bytes(BlockType::F32, &[1.0; 16]);
        file.tensors.push((name.to_owned(), vec![16], 0, bytes));
    });
    names(elsewhere, &[name, "smollm3", "llama only"]);
}

#[test]
fn an_irregular_pattern_is_refused_by_the_key_that_describes_it() {
    let read = |kind: &str, key: &str, value: Json| {
        let mut config = json!({
            "model_type": kind, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 130,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300,
            "max_position_embeddings": 64, "use_sliding_window": true, "sliding_window": 8,
        });
        config[key] = value;
        read_config_json(&config).unwrap_err().to_string()
    };
    let list = |odd: Json, other: Json| -> Json {
        (0..130).map(|layer| if layer == 100 { odd.clone() } else { other.clone() }).collect()
    };
    let types = list("full_attention".into(), "sliding_attention".into());
    for (kind, key, value) in [
        ("smollm3", "no_rope_layers", list(0.into(), 1.into())),
        ("smollm3", "no_rope_layer_interval", 100.into()),
        ("ministral", "layer_types", types),
        ("qwen3", "max_window_layers", 100.into()),
    ] {
        let error = read(kind, key, value);
        let expected = format!("{key} is 130 layers without a repeating pattern");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_gguf_window_is_mistrals() {
    let model = gguf(|file| file.set("llama.attention.sliding_window", Meta::U32(32))).unwrap();
    assert!((0..4).all(|layer| model.config.layer(layer).window == Some(32)));
    // Python's gguf writes booleans (`GGUFWriter.add_sliding_window_pattern`).
    for flags in [Meta::I32s(vec![1, 0, 1, 0]), Meta::Bools(vec![true, false, true, false])] {
        let mixed = gguf(|file| {
            file.set("llama.attention.sliding_window", Meta::U32(32));
            file.set("llama.attention.sliding_window_pattern", flags.clone());
        });
        let windows: Vec<_> =
            (0..4).map(|layer| mixed.as_ref().unwrap().config.layer(layer).window).collect();
        assert_eq!(windows, [Some(32), None, Some(32), None]);
    }
}

#[test]
fn defaults_are_those_of_the_classes() {
    let base = json!({
        "hidden_size": 4096, "intermediate_size": 64, "num_hidden_layers": 36, "num_attention_heads": 32,
        "max_position_embeddings": 64, "vocab_size": 300,
    });
    let read = |kind: &str| {
        let mut json = base.clone();
        json["model_type"] = kind.into();
        read_config_json(&json).unwrap().1
    };
    // kv_heads, head_dim, theta, tied, windows in the first and last layer: what transformers 5.24 has.
    let cases = [
        ("llama", 32, 128, 1e4, false, [None, None]),
        ("qwen2", 32, 128, 1e4, false, [None, None]),
        ("qwen3", 32, 128, 1e4, false, [None, None]),
        ("mistral", 8, 128, 1e4, false, [Some(4096), Some(4096)]),
        ("smollm3", 4, 128, 2e6, true, [None, None]),
    ];
    for (kind, kv_heads, head_dim, theta, tied, windows) in cases {
        let config = read(kind);
        assert_eq!(
            (config.kv_heads, config.head_dim, config.rope.theta),
            (kv_heads, head_dim, theta),
            "{kind}"
        );
        assert_eq!((config.tied, [0, 35].map(|layer| config.layer(layer).window)), (tied, windows), "{kind}");
        let no_rope = (0..36).filter(|&layer| !config.layer(layer).rope).count();
        assert_eq!(no_rope, if kind == "smollm3" { 9 } else { 0 });
    }
}

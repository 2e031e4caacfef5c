//! RoPE in every spelling of `config.json`, and in GGUF metadata.

use super::read_config_json;
use super::rope::read_gguf;
use crate::ConvertError;
use crate::read::{Metadata, Value};
use serde_json::{Value as Json, json};
use thimble_runtime::format::{RopeParameters, RopeScaling};

/// RoPE of a small Llama with these fields.
fn rope(fields: &Json) -> Result<RopeParameters, ConvertError> {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 1024, "vocab_size": 300,
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Ok(read_config_json(&config)?.1.rope)
}

/// What transformers 5.24 computes with, from the second frequency of a loaded model.
#[test]
fn theta_is_found_where_transformers_finds_it() {
    let plain = json!({"rope_type": "default"});
    let with = |theta: f64| json!({"rope_type": "default", "rope_theta": theta});
    let cases = [
        (json!({}), 1e4),
        (json!({"rope_theta": 5e5}), 5e5),
        (json!({"rope_theta": 500_000}), 5e5),
        (json!({"rope_theta": 2e4, "rope_scaling": null, "rope_parameters": null}), 2e4),
        (json!({"rope_parameters": {"rope_theta": 3e4}}), 3e4),
        (json!({"rope_parameters": {"type": "default", "rope_theta": 3e4}}), 3e4),
        (json!({"rope_theta": 2e4, "rope_parameters": with(3e4)}), 3e4),
        (json!({"rope_theta": 2e4, "rope_parameters": plain}), 2e4),
        (json!({"rope_theta": null, "rope_parameters": with(3e4)}), 3e4),
        (json!({"rope_theta": 2e4, "rope_parameters": {}}), 2e4),
        (json!({"rope_parameters": {}}), 1e4),
        (json!({"rope_scaling": with(4e4)}), 4e4),
        (json!({"rope_scaling": {"rope_theta": 4e4}}), 4e4),
        (json!({"rope_theta": 2e4, "rope_scaling": with(4e4)}), 4e4),
        (json!({"rope_theta": 2e4, "rope_scaling": plain}), 2e4),
        (json!({"rope_parameters": with(3e4), "rope_scaling": with(4e4)}), 4e4),
        (json!({"rope_parameters": with(3e4), "rope_scaling": plain}), 1e4),
        (json!({"rope_theta": 2e4, "rope_parameters": with(3e4), "rope_scaling": plain}), 2e4),
        (json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}, "rope_scaling": with(4e4)}), 4e4),
        (json!({"rope_parameters": with(3e4), "rope_scaling": {}}), 3e4),
        (json!({"rope_parameters": with(3e4), "rope_scaling": false}), 3e4),
        (json!({"rope_parameters": {"rope_type": "default", "type": "linear", "rope_theta": 3e4}}), 3e4),
    ];
    for (config, expected) in cases {
        let found = rope(&config).unwrap();
        assert_eq!(found, RopeParameters::new(expected), "{config}");
    }
}

#[test]
fn what_transformers_fails_on_is_refused() {
    let cases = [
        (json!({"rope_theta": null}), "rope_theta is missing or not a number"),
        (json!({"rope_theta": "5e5"}), "rope_theta is missing or not a number"),
        (json!({"rope_theta": null, "rope_parameters": {"rope_type": "default"}}), "rope_theta"),
        (json!({"rope_theta": 2e4, "rope_parameters": {"rope_theta": null}}), "rope_parameters: rope_theta"),
        (json!({"rope_scaling": {"rope_theta": "4e4"}}), "rope_scaling: rope_theta"),
        (json!({"rope_scaling": "none"}), "rope_scaling is \"none\""),
        (json!({"rope_parameters": []}), "rope_parameters is []"),
        (json!({"rope_parameters": {"rope_type": null, "rope_theta": 3e4}}), "rope_parameters"),
        (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling: factor is missing"),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}}),
            "low_freq_factor",
        ),
        (json!({"rope_parameters": {"full_attention": {"rope_theta": 3e4}}}), "full_attention"),
        (
            json!({"rope_parameters": {"rope_type": "default", "factor": 2.0}}),
            "rope_parameters: factor is 2.0",
        ),
    ];
    for (config, expected) in cases {
        let error = rope(&config).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("config.json"), "{config}: {error}");
    }
}

/// The attention factors are transformers' own for these parameters.
#[test]
fn scalings_have_transformers_defaults() {
    let yarn = |factor: f32, original_context, [beta_fast, beta_slow]: [f32; 2], attention_factor| {
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, truncate: true }
    };
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
    let [low_freq_factor, high_freq_factor] = [1.0, 4.0];
    let original_context = 1024;
    let cases = [
        (json!({"type": "linear", "factor": 2}), RopeScaling::Linear { factor: 2.0 }),
        (llama3, RopeScaling::Llama3 { factor: 8.0, low_freq_factor, high_freq_factor, original_context }),
        (json!({"type": "yarn", "factor": 4.0}), yarn(4.0, 1024, [32.0, 1.0], 1.138_629_4)),
        (json!({"type": "yarn", "factor": 1.0}), yarn(1.0, 1024, [32.0, 1.0], 1.0)),
        (
            json!({"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 256,
                "beta_fast": null, "beta_slow": 2}),
            yarn(4.0, 256, [32.0, 2.0], 1.138_629_4),
        ),
        (
            json!({"rope_type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0}),
            yarn(40.0, 1024, [32.0, 1.0], 0.921_042_4),
        ),
        (
            json!({"rope_type": "yarn", "factor": 40.0, "mscale": 0.707}),
            yarn(40.0, 1024, [32.0, 1.0], 1.368_887_9),
        ),
        (
            json!({"rope_type": "yarn", "factor": 40.0, "attention_factor": 0.5, "mscale": 3.0}),
            yarn(40.0, 1024, [32.0, 1.0], 0.5),
        ),
    ];
    for (scaling, expected) in cases {
        let found = rope(&json!({"rope_scaling": scaling})).unwrap();
        assert_eq!(found.scaling, expected, "{scaling}");
        assert_eq!(rope(&json!({"rope_parameters": scaling})).unwrap(), found);
    }
}

/// llama.cpp computes these architectures with its own factor of attention, whatever `yarn_attn_factor` says.
#[test]
fn gguf_keys_that_llama_cpp_ignores_have_to_agree_with_it() {
    let attention = |name: &str, value: f32| {
        let key = |name: &str| format!("qwen2.rope.scaling.{name}");
        let keys = [
            (key("type"), Value::Text(b"yarn".to_vec())),
            (key("factor"), Value::Float(4.0)),
            (key(name), Value::Float(f64::from(value))),
        ];
        read_gguf(&Metadata(keys.into()), "qwen2", 256, None).map(|rope| rope.attention_factor())
    };
    let plain = 1.138_629_4;
    for (name, value) in [
        ("yarn_attn_factor", 1.0),
        ("yarn_attn_factor", plain),
        ("yarn_ext_factor", -1.0),
        ("yarn_ext_factor", 1.0),
        ("yarn_beta_fast", 32.0),
    ] {
        assert_eq!(attention(name, value).unwrap(), plain, "{name} {value}");
    }
    assert_eq!(attention("attn_factor", 2.0).unwrap(), 2.0 * plain);
    for (name, value) in [
        ("yarn_attn_factor", 1.5),
        ("yarn_attn_factor", f32::NAN),
        ("yarn_ext_factor", 0.0),
        ("yarn_beta_slow", 2.0),
    ] {
        let error = attention(name, value).unwrap_err().to_string();
        assert!(error.contains(&format!("qwen2.rope.scaling.{name} is {value}")), "{error}");
    }
}

/// transformers has `.get("truncate", True)`: only a missing key is true.
#[test]
fn a_null_truncate_is_false() {
    let cases = [(json!({}), true), (json!({"truncate": null}), false), (json!({"truncate": true}), true)];
    for (more, expected) in cases {
        let mut scaling = json!({"type": "yarn", "factor": 4.0});
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = rope(&json!({"rope_scaling": scaling})).unwrap().scaling;
        assert!(matches!(found, RopeScaling::Yarn { truncate, .. } if truncate == expected), "{found:?}");
    }
}

//! What is not supported is refused by name, and no bytes make a panic.

use super::tiny::{BLOCKS, Folder, GgufFile, Meta, ODD, Random, float_bytes, random_blocks};
use super::{run, run_folder, run_gguf, temporary};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::fs;
use thimble_converter::read::Gguf;
use thimble_converter::{BlockType, ConvertError, Quant};

fn folder() -> Folder {
    Folder::new(ODD, BlockType::F32)
}

fn gguf() -> GgufFile {
    GgufFile::new(BLOCKS, BlockType::Q8_0, |spec| random_blocks(BlockType::Q8_0, spec))
}

/// The message has to contain every one of `names`.
pub(super) fn names<T>(result: Result<T, ConvertError>, names: &[&str]) {
    let Err(error) = result else { panic!("accepted, expected an error about {names:?}") };
    let message = error.to_string();
    for name in names {
        assert!(message.contains(name), "{message:?} does not name {name:?}");
    }
}

#[test]
fn foreign_configurations_are_refused_by_name() {
    let cases: [(&str, Json, &[&str]); 23] = [
        (
            "architectures",
            json!(["MistralForCausalLM"]),
            &["architectures", "MistralForCausalLM", "LlamaForCausalLM"],
        ),
        ("model_type", json!("qwen2"), &["model_type", "qwen2"]),
        ("hidden_act", json!("gelu"), &["hidden_act", "gelu", "silu"]),
        ("attention_bias", json!(true), &["attention_bias"]),
        ("mlp_bias", json!(true), &["mlp_bias"]),
        ("quantization_config", json!({"quant_method": "gptq"}), &["quantization_config", "gptq"]),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), &["rope_scaling", "dynamic"]),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), &["rope_scaling", "low_freq_factor"]),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4}), &["rope_parameters", "factor"]),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            &["layer_types", "sliding_attention"],
        ),
        ("rope_theta", json!(null), &["config.json", "rope_theta", "a number"]),
        (
            "rope_scaling",
            json!({"rope_theta": null}),
            &["config.json", "rope_scaling: rope_theta", "a number"],
        ),
        ("architectures", json!("LlamaForCausalLM"), &["architectures", "LlamaForCausalLM"]),
        ("num_key_value_heads", json!(2), &["head count", "multiple"]),
        ("hidden_size", json!("many"), &["hidden_size", "whole number"]),
        ("hidden_size", json!(128), &["model.embed_tokens.weight", "[300, 96]", "[300, 128]"]),
        ("intermediate_size", json!(71), &["model.layers.0.mlp.gate_proj.weight", "71", "70"]),
        ("vocab_size", json!(301), &["model.embed_tokens.weight", "301", "300"]),
        ("num_hidden_layers", json!(3), &["model.layers.2.", "missing"]),
        ("num_hidden_layers", json!(1), &["model.layers.1.", "no part of"]),
        ("tie_word_embeddings", json!(false), &["lm_head.weight", "missing"]),
        ("eos_token_id", json!("</s>"), &["config.json", "eos_token_id"]),
        ("eos_token_id", json!(300), &["special token", "300"]),
    ];
    for (key, value, expected) in cases {
        let mut folder = folder();
        folder.config[key] = value;
        names(run_folder(&folder, 1, Quant::Keep), expected);
    }
}

#[test]
fn plain_rope_is_accepted_in_every_spelling() {
    let spellings = [
        ("rope_scaling", json!({"rope_type": "default"})),
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 50000.0})),
        ("head_dim", json!(32)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("architectures", json!([])),
        ("architectures", json!(null)),
        ("eos_token_id", json!(0)),
    ];
    for (key, value) in spellings {
        let mut folder = folder();
        folder.config[key] = value;
        let (summary, _) = run_folder(&folder, 1, Quant::Keep).unwrap();
        assert_eq!(summary.config.rope.theta, 50000.0);
        // config.json's or, as here, tokenizer_config.json's end token.
        assert!(summary.config.is_stop(thimble_runtime::Token(2)), "{key}");
    }
    let mut folder = folder();
    folder.config["rope_theta"] = json!(1e4);
    folder.config["rope_parameters"] = json!({"rope_theta": 2e4});
    assert_eq!(run_folder(&folder, 1, Quant::Keep).unwrap().0.config.rope.theta, 2e4);
    folder.config["rope_scaling"] = json!({"rope_type": "default", "rope_theta": 4e4});
    assert_eq!(run_folder(&folder, 1, Quant::Keep).unwrap().0.config.rope.theta, 4e4);
}

#[test]
fn foreign_tensors_are_refused_by_name() {
    let mut bias = folder();
    let values = float_bytes(BlockType::F32, &[0.0; 96]);
    bias.tensors.push(("model.layers.0.self_attn.q_proj.bias".into(), BlockType::F32, vec![96], values));
    names(run_folder(&bias, 1, Quant::Keep), &["model.layers.0.self_attn.q_proj.bias", "a bias"]);

    let mut missing = folder();
    let gone = missing.tensors.remove(5).0;
    names(run_folder(&missing, 1, Quant::Keep), &[&gone, "missing"]);

    for (bad, quant) in [(f32::NAN, Quant::Q8), (f32::INFINITY, Quant::Keep), (f32::NAN, Quant::Q4)] {
        let mut folder = folder();
        let (name, bytes) = (folder.tensors[7].0.clone(), &mut folder.tensors[7].3);
        bytes[4 * 96 * 20..][..4].copy_from_slice(&bad.to_le_bytes());
        names(run_folder(&folder, 1, quant), &[&name, "row 20"]);
    }
    let mut large = folder();
    large.tensors[2].3[..4].copy_from_slice(&1e30f32.to_le_bytes());
    names(run_folder(&large, 1, Quant::F16), &["self_attn.q_proj.weight", "row 0", "f16", "bf16"]);
}

#[test]
fn places_without_a_model_are_refused() {
    let empty = temporary();
    names(run(empty.path(), Quant::Keep), &["holds no model", "config.json"]);
    names(run(&empty.path().join("absent"), Quant::Keep), &["absent", "cannot read"]);
    let text = empty.path().join("notes.txt");
    fs::write(&text, "hello").unwrap();
    names(run(&text, Quant::Keep), &["notes.txt", "holds no model"]);
    // A GGUF file without its name, as a cache keeps it.
    let nameless = empty.path().join("3f9a");
    fs::write(&nameless, gguf().bytes()).unwrap();
    run(&nameless, Quant::Keep).unwrap();
    // The weights themselves as the source.
    folder().write(empty.path(), 1);
    run(&empty.path().join("model.safetensors"), Quant::Keep).unwrap();
    fs::write(empty.path().join("config.json"), "{").unwrap();
    names(run(empty.path(), Quant::Keep), &["config.json", "JSON"]);
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for name in ["../model.safetensors", "a/b.safetensors", "..\\x", "", ".."] {
        let source = temporary();
        folder().write(source.path(), 2);
        let index = json!({"weight_map": {"model.norm.weight": name}});
        fs::write(source.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        names(run(source.path(), Quant::Keep), &["model.safetensors.index.json", "model.norm.weight"]);
    }
}

#[test]
fn foreign_gguf_metadata_is_refused_by_name() {
    let text = |t: &str| Meta::Text(t.to_owned());
    let cases: [(&str, Meta, &[&str]); 18] = [
        ("general.architecture", text("phi3"), &["architecture", "phi3", "llama"]),
        ("llama.rope.scaling.type", text("longrope"), &["llama.rope.scaling.type", "longrope"]),
        ("llama.rope.scaling.factor", Meta::F32(0.5), &["llama.rope.scaling.factor", "0.5"]),
        ("llama.rope.dimension_count", Meta::U32(16), &["llama.rope.dimension_count", "16"]),
        ("llama.attention.value_length", Meta::U32(16), &["llama.attention.value_length", "16"]),
        ("llama.attention.causal", Meta::Bool(false), &["llama.attention.causal", "false"]),
        ("llama.final_logit_softcapping", Meta::F32(30.0), &["llama.final_logit_softcapping", "30"]),
        ("tokenizer.ggml.add_sep_token", Meta::Bool(true), &["tokenizer.ggml.add_sep_token"]),
        ("llama.expert_count", Meta::U32(8), &["llama.expert_count", "8"]),
        ("llama.block_count", text("two"), &["llama.block_count", "whole number"]),
        ("llama.block_count", Meta::U32(3), &["blk.2.attn_norm.weight", "missing"]),
        ("llama.block_count", Meta::U32(1), &["blk.1.", "no part of"]),
        ("llama.feed_forward_length", Meta::U32(192), &["blk.0.ffn_gate.weight", "160", "192"]),
        ("tokenizer.ggml.model", text("llama"), &["tokenizer.ggml.model", "llama", "gpt2"]),
        ("tokenizer.ggml.pre", text("deepseek-llm"), &["pre", "deepseek-llm"]),
        ("tokenizer.ggml.add_eos_token", Meta::Bool(true), &["tokenizer.ggml.add_eos_token"]),
        ("tokenizer.ggml.add_bos_token", Meta::U32(1), &["tokenizer.ggml.add_bos_token", "true or false"]),
        ("general.alignment", Meta::U32(24), &["alignment", "24"]),
    ];
    for (key, value, expected) in cases {
        let mut file = gguf();
        file.set(key, value);
        names(run_gguf(&file, Quant::Keep), expected);
    }
    for key in
        ["general.architecture", "llama.embedding_length", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"]
    {
        let mut file = gguf();
        file.metadata.retain(|(k, _)| k != key);
        names(run_gguf(&file, Quant::Keep), &[key]);
    }
}

#[test]
fn foreign_gguf_tensors_are_refused_by_name() {
    let add = |name: &str, kind: u32, columns: u64, size: usize| {
        let mut file = gguf();
        file.tensors.push((name.to_owned(), vec![columns], kind, vec![0; size]));
        run_gguf(&file, Quant::Keep)
    };
    names(add("rope_freqs.weight", 0, 16, 64), &["rope_freqs.weight", "llama3"]);
    names(add("blk.0.attn_q.bias", 0, 96, 384), &["blk.0.attn_q.bias", "a bias"]);
    names(add("extra", 16, 256, 66), &["extra", "type 16"]);
    names(add("extra", 8, 33, 34), &["extra", "33", "Q8_0"]);
    names(add("token_embd.weight", 0, 16, 64), &["token_embd.weight", "twice"]);
    names(add("extra", 0, 0, 0), &["extra", "shape"]);
    names(add("extra", 0, 1 << 62, 64), &["extra"]);
    let mut broken = gguf();
    // The scale of a block of the first matrix becomes infinite.
    broken.tensors[2].3[..2].copy_from_slice(&0x7C00u16.to_le_bytes());
    names(run_gguf(&broken, Quant::Keep), &["blk.0.attn_q.weight", "infinite"]);
}

#[test]
fn every_truncation_is_an_error() {
    let whole = gguf().bytes();
    let mut random = Random(3);
    for length in (0..64).chain((0..200).map(|_| random.below(whole.len()))) {
        let error = Gguf::parse(&whole[..length], length as u64);
        assert!(error.is_err(), "{length} of {} bytes were accepted", whole.len());
    }
    Gguf::parse(&whole[..], whole.len() as u64).unwrap();
    // A file that shrinks while it is read.
    assert!(Gguf::parse(&whole[..100], whole.len() as u64).is_err());

    let source = temporary();
    folder().write(source.path(), 1);
    let path = source.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in (0..20).chain((0..30).map(|_| random.below(whole.len()))) {
        fs::write(&path, &whole[..length]).unwrap();
        names(run(source.path(), Quant::Keep), &["model.safetensors"]);
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    // A text, an array of texts and an array of numbers that claim far more than the file has.
    for (kind, claims) in [(8u32, vec![u64::MAX]), (9, vec![8, u64::MAX / 8]), (9, vec![5, u64::MAX / 4])] {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend([0u64, 1, 1].iter().flat_map(|n| n.to_le_bytes()));
        file.push(b'k');
        file.extend(kind.to_le_bytes());
        match claims[..] {
            [length] => file.extend(length.to_le_bytes()),
            [element, length] => {
                file.extend((element as u32).to_le_bytes());
                file.extend(length.to_le_bytes());
            }
            _ => unreachable!(),
        }
        let error = Gguf::parse(&file[..], file.len() as u64).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_gguf_bits_never_panic(flips in proptest::collection::vec((any::<u32>(), 0..8u8), 1..6)) {
        let mut bytes = gguf().bytes();
        // Most of the file is weights: aim at the head.
        let head = 12_000;
        for (at, bit) in flips {
            bytes[at as usize % head] ^= 1 << bit;
        }
        let source = temporary();
        let path = source.path().join("tiny.gguf");
        fs::write(&path, bytes).unwrap();
        let _ = run(&path, Quant::Keep);
    }

    #[test]
    fn flipped_safetensors_bits_never_panic(flips in proptest::collection::vec((any::<u32>(), 0..8u8), 1..6)) {
        let source = temporary();
        folder().write(source.path(), 1);
        let path = source.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        for (at, bit) in flips {
            bytes[at as usize % 2500] ^= 1 << bit;
        }
        fs::write(&path, bytes).unwrap();
        let _ = run(source.path(), Quant::Keep);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = [b"GGUF\x03\0\0\0".to_vec(), bytes].concat();
        prop_assert!(Gguf::parse(&file[..], file.len() as u64).is_err() || file.len() >= 24);
    }
}

//! Adapters of other models, and folders that an adapter file cannot hold.

use super::*;
use serde_json::{Value, json};

#[test]
fn an_adapter_of_another_model_is_refused() {
    let golden = golden("Llama 3, tied");
    let folder = tempfile::tempdir().unwrap();
    let model = model(&golden, folder.path(), Quant::Keep);
    let adapter = adapter_of("all", folder.path(), Quant::Keep);
    // However the base is stored.
    for quant in [Quant::Q8, Quant::Q4, Quant::F16] {
        let (stored, _) = converted(folder.path(), &folder.path().join("other.thimble"), quant);
        assert_eq!(adapter.file().unwrap().check_base(&stored.file().unwrap()), Ok(()), "{quant}");
    }
    // The same shape with other norms.
    let other = tempfile::tempdir().unwrap();
    let mut changed = golden.folder(BlockType::F32);
    let norm = changed.tensors.iter_mut().find(|tensor| tensor.0 == "model.norm.weight").unwrap();
    norm.3[0] ^= 1;
    changed.write(other.path(), 1);
    let (stored, _) = converted(other.path(), &other.path().join("m.thimble"), Quant::Keep);
    let (expected, found) =
        (base_fingerprint(&model.file().unwrap()), base_fingerprint(&stored.file().unwrap()));
    let refused = adapter.file().unwrap().check_base(&stored.file().unwrap());
    assert_eq!(refused, Err(AdapterError::OtherBase { expected, found }));
    let merge = |any_base: bool| {
        let merge = vec![(adapter.path().to_owned(), 1.0)];
        let options = ConversionOptions { merge, any_base, ..ConversionOptions::default() };
        convert(other.path(), &other.path().join("merged.thimble"), &options, &mut |_| ()).map(drop)
    };
    let refused = merge(false).unwrap_err().to_string();
    assert!(refused.contains("belongs to another base model: its fingerprint is"), "{refused}");
    merge(true).unwrap();
    // Another shape.
    let shape = tempfile::tempdir().unwrap();
    super::golden("Llama, YaRN").folder(BlockType::F32).write(shape.path(), 1);
    let opened = adapter::open(&peft("all")).unwrap();
    let refused = opened.with_base(&read::open(shape.path()).unwrap()).unwrap_err().to_string();
    assert!(
        refused.contains("model of another shape: its query matrix of layer 0 is 96 x 96, this model's"),
        "{refused}"
    );
}

/// A copy of a PEFT folder with another configuration.
fn changed(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(peft("all").join("adapter_config.json")).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(peft("all").join(weights), folder.path().join(weights)).unwrap();
    adapter::open(folder.path()).map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_an_adapter_file_cannot_hold_is_named() {
    assert_eq!(changed(|_| ()), Ok(()));
    for (key, value) in [
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("alpha_pattern", json!({"q_proj": 3})),
        ("trainable_token_indices", json!([1])),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("LOHA")),
        ("lora_alpha", json!(null)),
    ] {
        let refused = changed(|config| config[key] = value).unwrap_err();
        assert!(refused.contains(key), "{key}: {refused}");
    }
    for (name, expected) in [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "an adapter of the embedding"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "a magnitude of DoRA"),
        ("base_model.model.lm_head.weight", "a module that was saved whole"),
        ("base_model.model.lm_head.lora_A.weight", "an adapter of another module"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "lora_B of model.layers.0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(peft("all").join("adapter_config.json"), folder.path().join("adapter_config.json"))
            .unwrap();
        let data = [0u8; 16];
        let tensor =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 4], &data).unwrap();
        let bytes = safetensors::serialize([(name, tensor)], None).unwrap();
        std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
        let refused = adapter::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{name}: {refused}");
    }
    let adapter = adapter::open(&peft("all")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = adapter.write(&folder.path().join("x.adapter"), Quant::Q4).unwrap_err().to_string();
    assert!(refused.contains("--quant of an adapter is q4"), "{refused}");
}

//! Folders and GGUF files of every family, written and read again.

use super::golden::{self, Golden};
use std::path::Path;
use thimble_converter::config::Family;
use thimble_converter::export::{Dtype, export};
use thimble_converter::read::TokenizerSource;
use thimble_converter::tokenizer::Vocabulary;
use thimble_converter::write_gguf::{GgufType, write_gguf};
use thimble_converter::{BlockType, Sections, SourceModel, dequantize, read};
use thimble_runtime::format::Config;
use thimble_runtime::tokenizer::Pattern;

/// The model in a folder below `at`.
pub(super) fn source(golden: &Golden, at: &Path) -> SourceModel {
    std::fs::create_dir(at).unwrap();
    golden.folder(BlockType::F32).write(at, 1);
    read::open(at).unwrap()
}

/// Every tensor's role, layer and numbers.
fn numbers(model: &SourceModel) -> Vec<(String, u16, Vec<f32>)> {
    let tensor = |tensor: &read::SourceTensor| {
        let mut bytes = Vec::new();
        let rows = if tensor.role.is_vector() { 1 } else { tensor.rows };
        model.read_rows(tensor, 0..rows, &mut bytes).unwrap();
        let mut values = vec![0.0; rows * tensor.columns];
        dequantize(tensor.kind, &bytes, &mut values);
        (tensor.role.to_string(), tensor.layer, values)
    };
    model.tensors().iter().map(tensor).collect()
}

#[test]
fn folders_keep_class_configuration_and_weights() {
    for golden in golden::all() {
        let folder = tempfile::tempdir().unwrap();
        let model = source(&golden, &folder.path().join("source"));
        let out = folder.path().join("out");
        export(&model, &out, Dtype::F32, &mut |_| {}).unwrap();
        let again = read::open(&out).unwrap();
        assert_eq!(again.config, model.config, "{}", golden.name);
        assert_eq!(again.origin.architecture, golden.config["architectures"][0], "{}", golden.name);
        assert!(numbers(&again) == numbers(&model), "{}", golden.name);
    }
}

/// What llama.cpp cannot compute, and why.
const NOT_IN_GGUF: [(&str, &str); 3] = [
    ("Llama, YaRN with every key", "beta_fast 20"),
    ("SmolLM3, every third layer, windows there", "layers 2, 5"),
    ("SmolLM3, YaRN, a list of layers", "layers 1, 2"),
];

/// A GGUF file tells how text becomes tokens even where llama.cpp has no name for it, and a note says what llama.cpp does.
#[test]
fn gguf_files_keep_the_tokenizer() {
    const NFC: &str = "normalize text to NFC";
    const MERGES: &str = "llama.cpp merges every word";
    const KEEPS: &str = "llama.cpp keeps words";
    let golden = golden::all().into_iter().next().unwrap();
    for (pattern, whole_words, nfc, notes) in [
        (Pattern::Gpt2, false, false, &[] as &[&str]),
        (Pattern::Gpt2Digits, true, true, &[MERGES, NFC]),
        (Pattern::Llama3, true, false, &[]),
        (Pattern::Llama3, false, true, &[NFC]),
        (Pattern::Qwen2, false, true, &[NFC]),
        (Pattern::Qwen2, false, false, &[]),
        (Pattern::Qwen2, true, true, &[MERGES, NFC]),
        (Pattern::Tekken, true, false, &[]),
        (Pattern::Tekken, false, false, &[KEEPS]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut model = source(&golden, &folder.path().join("source"));
        let TokenizerSource::Json(json) = &model.tokenizer else { panic!("a tokenizer.json") };
        let vocabulary = Vocabulary::from_tokenizer_json(json).unwrap();
        let vocabulary = Vocabulary { pattern, whole_words, nfc, ..vocabulary };
        let expected = vocabulary.emit();
        model.tokenizer = TokenizerSource::Sections(Sections { tokenizer: expected.clone(), chat: None });
        let mut path = folder.path().join("a.gguf");
        let mut from = model;
        // The second file is written from the first.
        for name in ["a.gguf", "b.gguf"] {
            path.set_file_name(name);
            let found = write_gguf(&from, &path, GgufType::Keep, &mut |_| {}).unwrap().notes;
            let found: Vec<&String> = found.iter().filter(|note| note.contains("tokens")).collect();
            let as_expected = found.iter().zip(notes).all(|(found, note)| found.contains(note));
            assert!(found.len() == notes.len() && as_expected, "{pattern:?}: {found:?}");
            from = read::open(&path).unwrap();
            assert!(Sections::of(&from).unwrap().tokenizer == expected, "{pattern:?}, {whole_words}, {nfc}");
        }
    }
}

#[test]
fn gguf_files_keep_configuration_and_weights() {
    let mut refused = 0;
    for golden in golden::all() {
        let folder = tempfile::tempdir().unwrap();
        let model = source(&golden, &folder.path().join("source"));
        let out = folder.path().join("out.gguf");
        let written = write_gguf(&model, &out, GgufType::Keep, &mut |_| {});
        let reason = NOT_IN_GGUF.iter().find(|(name, _)| *name == golden.name);
        if let Some((_, reason)) = reason {
            let error = written.unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("llama.cpp"), "{error}");
            assert!(!out.exists());
            refused += 1;
            continue;
        }
        let notes = written.unwrap().notes;
        let window = model.config.window > 0;
        assert_eq!(notes.iter().any(|note| note.contains("sliding window")), window, "{notes:?}");
        let again = read::open(&out).unwrap();
        // Divisors of few frequencies fit several llama3 rules: those are the same rotations.
        let rope = model.config.rope;
        assert_eq!(Config { rope, ..again.config }, model.config, "{}", golden.name);
        let half = model.config.head_dim / 2;
        let (mut expected, mut found) = (vec![0.0f32; half], vec![0.0f32; half]);
        rope.inverse_frequencies(&mut expected);
        again.config.rope.inverse_frequencies(&mut found);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5 * b;
        assert!(found.iter().zip(&expected).all(near), "{}: {found:?} {expected:?}", golden.name);
        let factors = [again.config.rope, rope].map(|rope| rope.attention_factor());
        assert!((factors[0] - factors[1]).abs() < 1e-6, "{}: {factors:?}", golden.name);
        let family = Family::of(&model.config).unwrap();
        assert_eq!(again.origin.architecture, family.architecture());
        assert!(numbers(&again) == numbers(&model), "{}", golden.name);
    }
    assert_eq!(refused, NOT_IN_GGUF.len());
}

//! SmolLM2's vocabulary on all of the shared texts and on a million random strings.

use super::common::Random;
use super::gguf::Metadata;
use conformance::{find_gguf, gguf, shared};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;
use thimble_converter::tokenizer::{Vocabulary, test_texts, verify_against};

/// What the GGUF file named by `THIMBLE_GGUF` says, and the section made from it.
static MODEL: LazyLock<Option<(Metadata, Vocabulary, Vec<u8>)>> = LazyLock::new(|| {
    let path = find_gguf()?;
    let bytes = std::fs::read(&path).expect("THIMBLE_GGUF names a file");
    let metadata = Metadata::read(&bytes);
    let Metadata { tokens, types, merges, pre } = &metadata;
    let vocabulary = Vocabulary::from_gguf(tokens, types, merges, pre).expect("a byte-level vocabulary");
    let section = vocabulary.emit();
    Some((metadata, vocabulary, section))
});

/// The same; skips a test for want of it.
fn model() -> Option<&'static (Metadata, Vocabulary, Vec<u8>)> {
    gguf().and(MODEL.as_ref())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The strings in a value, at any depth.
fn strings(value: serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text),
        serde_json::Value::Array(list) => list.into_iter().for_each(|value| strings(value, found)),
        serde_json::Value::Object(map) => map.into_iter().for_each(|(_, value)| strings(value, found)),
        _ => {}
    }
}

#[test]
fn shared_texts_give_the_ids_of_the_oracle() {
    let (Some((metadata, _, section)), Some(shared)) = (model(), shared()) else { return };
    let oracle = metadata.oracle();
    for folder in ["data/text", "data/eval/mmlu", "data/eval/gsm8k", "data/eval", "data/sft", "data/dpo"] {
        let mut paths = Vec::new();
        files(&shared.join(folder), &mut paths);
        let (mut texts, mut lines) = (Vec::new(), 0);
        for path in &paths {
            let text = std::fs::read_to_string(path).expect("UTF-8 text");
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                for line in text.lines() {
                    strings(serde_json::from_str(line).expect("a line of JSON"), &mut texts);
                }
            }
            lines += text.lines().count();
            // Each file as it stands, too, in parts of a size that the oracle can take.
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            texts.extend(lines.chunks(64).map(|lines| lines.concat()));
        }
        let bytes: usize = texts.iter().map(String::len).sum();
        let tokens = verify_against(section, &oracle, &texts).expect("equal ids");
        println!("{folder}: {} files, {lines} lines, {bytes} bytes, {tokens} tokens, 0 differ", paths.len());
    }
}

#[test]
fn a_million_random_strings_give_the_ids_of_the_oracle() {
    let Some((metadata, _, section)) = model() else { return };
    let oracle = metadata.oracle();
    let begin = Instant::now();
    let mut random = Random(2026);
    let mut bytes = 0;
    let texts = (0..1_000_000).map(|_| {
        let text = random.text(16);
        bytes += text.len();
        text
    });
    let tokens = verify_against(section, &oracle, texts).expect("equal ids");
    println!("1000000 strings, {bytes} bytes, {tokens} tokens, 0 differ, {:?}", begin.elapsed());
}

#[test]
fn the_battery_of_the_real_vocabulary_passes() {
    let Some((metadata, vocabulary, section)) = model() else { return };
    let begin = Instant::now();
    let texts = test_texts(vocabulary);
    let tokens = verify_against(section, &metadata.oracle(), &texts).expect("equal ids");
    let missing = vocabulary.missing_bytes();
    println!("section of {} bytes, bytes without a token {missing:02x?}", section.len());
    println!("battery: {} texts, {tokens} tokens, 0 differ, {:?}", texts.len(), begin.elapsed());
    let own = vocabulary.oracle().expect("a tokenizer");
    verify_against(section, &own, &texts).expect("the converter's oracle agrees");
}

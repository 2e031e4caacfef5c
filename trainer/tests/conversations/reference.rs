//! Folders of reference values that TRL made.

use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use thimble_trainer::data::TrainingBatch;
use thimble_trainer::data::conversations::{
    ConversationEncoder, ConversationExample, RowOptions, TokenizedExample, fill_batch, pack_best_fit,
    row_targets, rows,
};
use thimble_trainer::export::read_model;
use thimble_trainer::model::{Engine, EngineOptions, Parameters};
use thimble_trainer::ops::Buffer;
use thimble_trainer::ops::cpu::CpuOps;

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/train/sft");

#[derive(Deserialize)]
struct Reference {
    examples: Vec<Expected>,
    #[serde(default)]
    edge: Vec<Edge>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) messages: Value,
    pub(crate) input_ids: Vec<u32>,
    pub(crate) mask: Vec<u8>,
    nll_sum: Option<f64>,
    loss_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Edge {
    messages: Value,
    length: usize,
    truncated_to: usize,
    input_ids: Vec<u32>,
    mask: Vec<u8>,
    dropped_by_trl: bool,
}

pub(crate) fn example(messages: &Value) -> ConversationExample {
    let row = serde_json::json!({"messages": messages});
    ConversationExample::of_row(&row).unwrap().remove(0)
}

pub(crate) fn ones(example: &TokenizedExample) -> Vec<u8> {
    example.mask().into_iter().map(u8::from).collect()
}

/// Tokens, masks, truncation and bins.
fn check_data(folder: &Path) -> Vec<TokenizedExample> {
    let text = std::fs::read_to_string(folder.join("sft.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    let encoder = ConversationEncoder::open(&folder.join("model")).unwrap();
    let mut all = Vec::new();
    for expected in &reference.examples {
        let found = encoder.encode(&example(&expected.messages)).unwrap();
        assert_eq!(found.ids, expected.input_ids, "{}", expected.messages);
        assert_eq!(ones(&found), expected.mask, "{}", expected.messages);
        assert_eq!(Some(found.target_count()), expected.loss_tokens, "{}", expected.messages);
        all.push(found);
    }
    for edge in &reference.edge {
        let mut found = encoder.encode(&example(&edge.messages)).unwrap();
        assert_eq!(found.ids.len(), edge.length);
        found.truncate(edge.truncated_to);
        assert_eq!((&found.ids, ones(&found)), (&edge.input_ids, edge.mask.clone()));
        assert_eq!(found.target_count() == 0, edge.dropped_by_trl);
    }
    let (name, bins) = reference.rest.iter().find(|(name, _)| name.starts_with("packed_bfd_")).unwrap();
    let size: usize = name["packed_bfd_".len()..].parse().unwrap();
    let expected: Vec<Vec<usize>> = bins
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| serde_json::from_value(bin["examples"].clone()).unwrap())
        .collect();
    let lengths: Vec<usize> = all.iter().map(|example| example.ids.len()).collect();
    assert_eq!(pack_best_fit(&lengths, size), expected);
    all
}

/// The sum of negative log-likelihoods of all examples, in rows as given, each row or `together` of them in a batch.
fn loss(folder: &Path, all: &[TokenizedExample], options: RowOptions, together: usize) -> f64 {
    let (config, weights) = read_model(&folder.join("model")).unwrap();
    let ops = CpuOps::new(2, Parameters::new(&config).len, config.norm_eps).unwrap();
    let options_of_engine = EngineOptions { document_mask: true, ..EngineOptions::default() };
    let mut engine = Engine::new(&config, options_of_engine, ops);
    engine.write(Buffer::Weights, &weights).unwrap();
    let mut batch = TrainingBatch::default();
    let rows = rows(all, options);
    let mut sum = 0.0;
    for rows in rows.chunks(together) {
        fill_batch(&mut batch, all, rows, options.length, 1.0);
        sum += engine.evaluate(&batch).unwrap();
    }
    assert_eq!(
        row_targets(all, &rows, options.length),
        all.iter().map(TokenizedExample::target_count).sum::<usize>()
    );
    sum
}

fn check(folder: &Path) {
    let all = check_data(folder);
    let text = std::fs::read_to_string(folder.join("sft.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    let expected: f64 = reference.examples.iter().filter_map(|example| example.nll_sum).sum();
    let longest = all.iter().map(|example| example.ids.len()).max().unwrap();
    // Packed or padded, alone or together: no example sees another, and no padding counts.
    for (packing, length, together) in
        [(false, longest, 1), (false, longest, 5), (true, 2 * longest, 1), (true, 2 * longest, 3)]
    {
        let found = loss(folder, &all, RowOptions { length, packing }, together);
        let far = (found - expected).abs() / expected;
        assert!(far < 1e-6, "packing {packing}, {together} rows: {found} for {expected}");
    }
}

#[test]
fn masks_bins_and_losses_are_those_of_trl() {
    check(Path::new(GOLDEN));
}

#[test]
fn masks_bins_and_losses_are_those_of_trl_on_the_shared_reference() {
    let Some(shared) = thimble_needs::shared() else { return };
    check(&shared.join("reference/sft"));
}

/// A copy of the golden model with another template and other names for its special tokens.
pub(crate) fn model_with(template: Option<&str>, bos: &str, eos: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let golden = Path::new(GOLDEN).join("model");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(golden.join(name), path.join(name)).unwrap();
    }
    if let Some(template) = template {
        std::fs::write(path.join("chat_template.jinja"), template).unwrap();
    }
    let mut names = serde_json::json!({"eos_token": eos, "pad_token": eos});
    if !bos.is_empty() {
        names["bos_token"] = bos.into();
    }
    std::fs::write(path.join("tokenizer_config.json"), names.to_string()).unwrap();
    (folder, path)
}

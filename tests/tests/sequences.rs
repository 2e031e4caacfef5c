//! Sequences that run together: each slot's tokens and logits are those of a session that runs it alone, to the bit, in
//! random mixes of requests that join and leave.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]

#[path = "families/golden.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod golden;
#[path = "sequences/mix.rs"]
mod mix;
#[path = "sequences/refusals.rs"]
mod refusals;
#[path = "sequences/request.rs"]
mod request;
mod tiny;

use conformance::converted;
use mix::Mix;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use thimble_converter::adapter::{SourceAdapter, SourceLowRank};
use thimble_converter::{BlockType, Quant};
use thimble_files::{MappedModel, OpenedAdapter};
use thimble_host::KernelKind;
use thimble_runtime::format::{Config, TensorRole};
use tiny::Random;

/// Models without and with windows, biases, norms of heads and layers without RoPE, in float, 8-bit and 4-bit encodings.
const MODELS: [(&str, Quant); 6] = [
    ("Mistral", Quant::Q4Min),
    ("Qwen3, layers of both kinds", Quant::Q8),
    ("Llama 3, tied", Quant::F16),
    ("SmolLM3, every third layer, windows there", Quant::Q4Even),
    ("Qwen2, windows from layer 2 on", Quant::Q8),
    ("Llama, linear", Quant::Q4Min),
];

/// Positions of the models: enough that caches with a window move.
const CONTEXT: usize = 2048;

/// Mixes of requests.
const MIXES: usize = 210;

/// A model with two adapters.
pub(crate) struct Subject {
    pub(crate) model: MappedModel,
    pub(crate) adapters: [OpenedAdapter; 2],
}

/// An adapter for some matrices of every layer.
fn adapter(config: &Config, path: &Path, roles: &[TensorRole], rank: usize) -> OpenedAdapter {
    let mut random = Random(rank as u64);
    let mut numbers =
        |count: usize| (0..count).map(|_| random.below(2001) as f32 / 10_000.0 - 0.1).collect::<Vec<f32>>();
    let mut matrices = Vec::new();
    for layer in 0..config.layers as u16 {
        for &role in roles {
            let (rows, columns) = role.shape(config);
            let (a, b) = (numbers(rank * columns), numbers(rows * rank));
            let (scale, kind) = (0.5, BlockType::F32);
            matrices.push(SourceLowRank { role, layer, rows, columns, rank, scale, kind, a, b });
        }
    }
    let adapter =
        SourceAdapter { source: "made up".into(), base: None, fingerprint: None, layers: None, matrices };
    adapter.write(path, Quant::F16).unwrap();
    OpenedAdapter::read(path).unwrap()
}

impl Subject {
    fn new((name, quant): (&str, Quant), folder: &Path) -> Subject {
        let golden = golden::named(name);
        let mut source = golden.folder(BlockType::F32);
        source.config["max_position_embeddings"] = json!(CONTEXT);
        source.write(folder, 1);
        let (model, _) = converted(folder, &folder.join("m.thimble"), quant);
        let config = *model.file().unwrap().config();
        let some = [TensorRole::Query, TensorRole::Value, TensorRole::Gate, TensorRole::Down];
        let others = [TensorRole::Key, TensorRole::Value, TensorRole::Output, TensorRole::Up];
        let adapters = [(&some, 4), (&others, 7)]
            .map(|(roles, rank)| adapter(&config, &folder.join(format!("{rank}.adapter")), roles, rank));
        Subject { model, adapters }
    }
}

#[test]
fn a_slot_computes_what_a_session_alone_computes() {
    let kernels: Vec<KernelKind> =
        KernelKind::ALL.into_iter().filter(|kind| kind.kernels().is_ok()).collect();
    let folder = tempfile::tempdir().unwrap();
    let subjects: Vec<Subject> = (0..)
        .zip(MODELS)
        .map(|(i, model)| {
            let folder = folder.path().join(format!("{i}"));
            std::fs::create_dir(&folder).unwrap();
            Subject::new(model, &folder)
        })
        .collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..MIXES {
        let subject = &subjects[number % subjects.len()];
        let mix = Mix::new(number, subject, kernels[number / MODELS.len() % kernels.len()]);
        for (what, count) in mix.check() {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{MIXES} mixes, {} kernel sets: {seen:?}", kernels.len());
    let kinds =
        ["requests", "tokens", "masked", "adapted", "reused", "copied", "rewound", "refilled", "together"];
    for what in kinds {
        assert!(
            seen.get(what).is_some_and(|&count| count >= 10),
            "too few {what} to prove anything: {seen:?}"
        );
    }
}
